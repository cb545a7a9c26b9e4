//! Seeds that hand texts to a function one by one, so that no list is kept.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};

use super::{error::FileProblem, reader::Reading};

/// What happens to a text.
pub(crate) type OnText<'f> = &'f mut dyn FnMut(&mut Reading<'_>, &str) -> Result<(), FileProblem>;

/// One text.
pub(crate) struct Text<'r, 'n, 'f> {
    pub(crate) reading: &'r mut Reading<'n>,
    pub(crate) on: OnText<'f>,
}

impl<'de> DeserializeSeed<'de> for Text<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Text<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        (self.on)(self.reading, text).map_err(|problem| self.reading.stop(problem))
    }
}

/// A list of texts.
pub(crate) struct Texts<'r, 'n, 'f> {
    pub(crate) reading: &'r mut Reading<'n>,
    pub(crate) on: OnText<'f>,
}

impl<'de> DeserializeSeed<'de> for Texts<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Texts<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of names")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list
            .next_element_seed(Text { reading: &mut *self.reading, on: &mut *self.on })?
            .is_some()
        {}
        Ok(())
    }
}

impl Reading<'_> {
    /// Keeps `problem` aside and makes an error that carries the position.
    pub(crate) fn stop<E: serde::de::Error>(&mut self, problem: FileProblem) -> E {
        self.problem = Some(problem);
        E::custom("stopped")
    }
}

/// Fails unless `name` may be the name of a user or a tool.
pub(crate) fn check_name(name: &str) -> Result<(), FileProblem> {
    if name.is_empty() { Err(FileProblem::EmptyName) } else { Ok(()) }
}
