//! A set of ordinals: a short list, or one bit each.

/// Above this a list takes longer to search than bits take memory.
const LIST: usize = 64;

/// A set of users.
#[derive(Clone, Debug)]
pub(crate) enum UserSet {
    List(Vec<u32>),
    Bits(Vec<u64>),
}

impl Default for UserSet {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl UserSet {
    /// Adds `user`; says whether it is new.
    pub(crate) fn insert(&mut self, user: u32) -> bool {
        match self {
            Self::List(list) if list.contains(&user) => false,
            Self::List(list) if list.len() < LIST => {
                list.push(user);
                true
            }
            Self::List(list) => {
                let mut bits = Vec::new();
                for user in list.iter().copied().chain([user]) {
                    set_bit(&mut bits, user);
                }
                *self = Self::Bits(bits);
                true
            }
            Self::Bits(bits) => set_bit(bits, user),
        }
    }

    pub(crate) fn contains(&self, user: u32) -> bool {
        match self {
            Self::List(list) => list.contains(&user),
            Self::Bits(bits) => {
                bits.get(user as usize / 64).is_some_and(|word| word & (1 << (user % 64)) != 0)
            }
        }
    }

    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::List(list) => list.len() as u64,
            Self::Bits(bits) => bits.iter().map(|word| u64::from(word.count_ones())).sum(),
        }
    }

    /// The memory that it takes, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::List(list) => list.capacity() * 4,
            Self::Bits(bits) => bits.capacity() * 8,
        }
    }

    /// The users, in no particular order.
    pub(crate) fn iter(&self) -> Box<dyn Iterator<Item = u32> + '_> {
        match self {
            Self::List(list) => Box::new(list.iter().copied()),
            Self::Bits(bits) => Box::new((0_u32..).zip(bits).flat_map(|(index, word)| {
                (0..64).filter(move |bit| word & (1 << bit) != 0).map(move |bit| index * 64 + bit)
            })),
        }
    }
}

fn set_bit(bits: &mut Vec<u64>, user: u32) -> bool {
    let (index, mask) = (user as usize / 64, 1_u64 << (user % 64));
    if bits.len() <= index {
        bits.resize(index + 1, 0);
    }
    let is_new = bits[index] & mask == 0;
    bits[index] |= mask;
    is_new
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set(users in prop::collection::vec(0_u32..500, 0..300)) {
            let mut set = UserSet::default();
            let mut model = BTreeSet::new();
            for user in users {
                prop_assert_eq!(set.insert(user), model.insert(user));
            }
            prop_assert_eq!(set.len(), model.len() as u64);
            prop_assert_eq!(set.iter().collect::<BTreeSet<_>>(), model.clone());
            prop_assert!((0..600).all(|user| set.contains(user) == model.contains(&user)));
        }
    }
}
