//! Whom sessions belonged to when that was last read.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use crate::session::Viewer;

/// How many sessions are remembered, some 200 bytes each.
const MOST: usize = 10_000;

/// Who was behind a session, by the hash of its token: a guess, which a query confirms or not.
#[derive(Debug, Default)]
pub(crate) struct Viewers(Mutex<HashMap<String, Viewer>>);

impl Viewers {
    pub(crate) fn guess(&self, token_sha256: &str) -> Option<Viewer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(token_sha256).cloned()
    }

    pub(crate) fn remember(&self, token_sha256: String, viewer: Viewer) {
        let mut viewers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // All are forgotten at once, which costs each a query more, once.
        if viewers.len() >= MOST {
            viewers.clear();
        }
        viewers.insert(token_sha256, viewer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_stays_bounded() {
        let viewers = Viewers::default();
        for number in 0..MOST + 1 {
            let viewer = Viewer { id: 1, username: "alice".to_owned(), is_admin: false };
            viewers.remember(number.to_string(), viewer);
        }
        assert_eq!(viewers.0.lock().unwrap().len(), 1);
        assert_eq!(viewers.guess(&MOST.to_string()).unwrap().username, "alice");
        assert_eq!(viewers.guess("0"), None);
    }
}
