#![doc = include_str!("../README.md")]

mod app;
mod asset;
mod attempts;
pub mod check;
mod cookie;
mod error;
mod form;
mod frame;
mod handler;
mod health;
mod page;
mod password;
mod server;
mod session;
mod store;
mod token;
mod user;

pub use app::{App, Front, Settings};
pub use password::{HashPasswordError, InvalidPasswordError, Password};
pub use server::{ListenError, Server, block_on, interruption};
pub use user::{CreateUserError, CreatedUser, NewUser, Role, create_demo_users, create_user};
