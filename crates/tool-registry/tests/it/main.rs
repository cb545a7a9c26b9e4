//! The registry on real SQLite and PostgreSQL.
