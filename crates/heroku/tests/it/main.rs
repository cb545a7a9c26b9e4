//! The client against the emulator, with everything going wrong that can.

#![allow(clippy::unwrap_used, reason = "test code")]

mod backup;
mod call;
mod code;
mod run;
mod world;
