//! How often somebody may try to log in.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long attempts are counted before the count starts anew.
pub(crate) const WINDOW: Duration = Duration::from_secs(5 * 60);
/// Attempts per window on one name from one address: more than a person who mistypes needs.
pub(crate) const PER_NAME_AND_ADDRESS: u32 = 10;
/// Attempts per window from one address, which may be that of a whole office.
pub(crate) const PER_ADDRESS: u32 = 100;
/// Attempts per window on one name from all addresses. Whoever uses them up keeps the name's owner out, so it is high.
pub(crate) const PER_NAME: u32 = 100;
/// How many counts are kept, so that memory stays bounded under attack.
const MAX_COUNTS: usize = 1 << 16;

/// Counts the attempts that failed or are under way.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    counts: Mutex<HashMap<u64, Count>>,
    hasher: RandomState,
}

#[derive(Clone, Copy, Debug)]
struct Count {
    since: Instant,
    attempts: u32,
}

/// An attempt that is counted.
#[derive(Debug)]
#[must_use]
pub(crate) struct Attempt([u64; 3]);

/// There were too many attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany {
    /// When the next one is allowed.
    pub(crate) retry_after: Duration,
}

impl Attempts {
    /// Counts an attempt on `name` from `address` before it is made, so that many at once count, too.
    pub(crate) fn begin(
        &self,
        address: IpAddr,
        name: &str,
        now: Instant,
    ) -> Result<Attempt, TooMany> {
        let network = network(address);
        let keys = [
            self.hasher.hash_one((Some(network), Some(name))),
            self.hasher.hash_one((Some(network), None::<&str>)),
            self.hasher.hash_one((None::<IpAddr>, Some(name))),
        ];
        let limits = [PER_NAME_AND_ADDRESS, PER_ADDRESS, PER_NAME];
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let over = |(key, limit): (&u64, u32)| {
            let count = counts.get(key).filter(|count| count.attempts >= limit)?;
            let left = WINDOW.checked_sub(now.saturating_duration_since(count.since))?;
            (!left.is_zero()).then_some(left)
        };
        if let Some(retry_after) = keys.iter().zip(limits).filter_map(over).max() {
            return Err(TooMany { retry_after });
        }
        make_room(&mut counts, now);
        for key in keys {
            let count = counts.entry(key).or_insert(Count { since: now, attempts: 0 });
            if now.saturating_duration_since(count.since) >= WINDOW {
                *count = Count { since: now, attempts: 0 };
            }
            count.attempts += 1;
        }
        Ok(Attempt(keys))
    }

    /// Takes an attempt back that succeeded.
    pub(crate) fn succeeded(&self, Attempt(keys): Attempt) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys {
            if let Some(count) = counts.get_mut(&key) {
                count.attempts = count.attempts.saturating_sub(1);
            }
        }
    }
}

fn make_room(counts: &mut HashMap<u64, Count>, now: Instant) {
    if counts.len() < MAX_COUNTS {
        return;
    }
    counts.retain(|_, count| now.saturating_duration_since(count.since) < WINDOW);
    if counts.len() >= MAX_COUNTS {
        // Under attack from everywhere: the counts that matter are those that have grown.
        counts.retain(|_, count| count.attempts > 1);
    }
    if counts.len() >= MAX_COUNTS {
        counts.clear();
    }
}

/// What one client can choose an address from: with IPv6, the lower half.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn office() -> IpAddr {
        "203.0.113.7".parse().unwrap()
    }

    #[test]
    fn guessing_a_name_ends_after_some_attempts_and_may_go_on_later() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for _ in 0..PER_NAME_AND_ADDRESS {
            let _ = attempts.begin(HOME, "alice", now).unwrap();
        }
        let later = now + Duration::from_secs(60);
        let error = attempts.begin(HOME, "alice", later).unwrap_err();
        assert_eq!(error.retry_after, Duration::from_secs(240));
        let _ = attempts.begin(HOME, "bob", now).unwrap();
        let _ = attempts.begin(office(), "alice", now).unwrap();
        let _ = attempts.begin(HOME, "alice", now + WINDOW).unwrap();
    }

    #[test]
    fn logging_in_is_not_limited_while_it_succeeds() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for _ in 0..1000 {
            let attempt = attempts.begin(HOME, "alice", now).unwrap();
            attempts.succeeded(attempt);
        }
    }

    #[test]
    fn trying_many_names_from_one_network_ends_too() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for number in 0..PER_ADDRESS {
            let address = format!("2001:db8::{number:x}").parse().unwrap();
            let _ = attempts.begin(address, &format!("user_{number}"), now).unwrap();
        }
        let error = attempts.begin("2001:db8::ffff".parse().unwrap(), "alice", now).unwrap_err();
        assert_eq!(error.retry_after, WINDOW);
    }

    #[test]
    fn memory_stays_bounded() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for number in 0..100_000_u32 {
            let _ = attempts.begin(IpAddr::from(number.to_be_bytes()), &number.to_string(), now);
        }
        assert!(attempts.counts.lock().unwrap().len() <= MAX_COUNTS + 3);
    }
}
