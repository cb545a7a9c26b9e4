//! Access on real SQLite and PostgreSQL.

mod change;
