//! `cargo xtask` from outside: as the terminal and the file system see it.

#![allow(clippy::unwrap_used, reason = "test code")]

mod deploy;
mod deployments;
mod dist;
mod doctor;
mod flags;
mod guide;
mod heroku;
mod production;
mod project;
mod real;
mod rehearse;
mod resume;
mod rollback;
mod telling;
mod workflows;
