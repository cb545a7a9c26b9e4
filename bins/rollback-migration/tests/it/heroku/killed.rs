//! A program that is killed while it talks to Heroku. Tests of other programs use this file, too.

use std::process::Stdio;

use super::world::World;

impl World {
    /// Runs the program and kills it when `more` requests have come. Returns whether it ended before, and well.
    pub(crate) fn run_and_kill(&self, arguments: &[&str], more: usize) -> bool {
        let requests = || self.emulator.requests().len();
        let enough = requests() + more;
        let mut command = self.command(arguments);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        while child.try_wait().unwrap().is_none() {
            if requests() >= enough {
                child.kill().unwrap();
                child.wait().unwrap();
                return false;
            }
        }
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        true
    }
}
