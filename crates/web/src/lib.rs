#![doc = include_str!("../README.md")]

mod account;
mod admin;
mod app;
mod asset;
mod attempts;
mod change;
pub mod check;
mod comparison;
mod cookie;
pub mod deployment;
mod error;
mod form;
mod frame;
mod handler;
mod health;
mod metrics;
mod page;
mod password;
mod server;
mod session;
mod store;
mod token;
mod user;
mod user_change;
mod viewers;
mod workers;

pub use app::{App, Front, Settings};
pub use password::{HashPasswordError, InvalidPasswordError, Password};
pub use server::{ListenError, Server, block_on, interruption};
pub use user::{CreateUserError, CreatedUser, NewUser, Role, create_demo_users, create_user};
