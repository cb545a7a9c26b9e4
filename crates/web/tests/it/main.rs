//! The app over HTTP, on real SQLite and PostgreSQL.

mod asset;
mod check;
mod dashboard;
mod form;
mod frame;
mod health;
mod login;
mod running;
mod user;
