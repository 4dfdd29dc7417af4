//! Topic aliases of one connection: numbers that a broker sends in the place of topics.
//!
//! The library hands a message with an alias alone out with an empty topic, and carries its own table over to the next
//! connection, where the numbers mean something else.

use bytes::Bytes;

/// The topics that have a number, up to the maximum that the broker was told.
#[derive(Debug)]
pub struct Aliases {
    maximum: u16,
    topics: Vec<Option<Bytes>>,
}

/// An alias that breaks the protocol.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AliasError {
    #[error("the broker uses topic alias {alias}, above the agreed maximum of {maximum}")]
    TooLarge { alias: u16, maximum: u16 },
    #[error("the broker uses topic alias {0} before giving it a topic")]
    Unknown(u16),
    #[error("the broker sends a message without a topic")]
    NoTopic,
}

impl Aliases {
    pub fn new(maximum: u16) -> Self {
        Self { maximum, topics: Vec::new() }
    }

    /// The topic of a message; remembers it if it comes with a number.
    pub fn resolve(&mut self, alias: Option<u16>, topic: Bytes) -> Result<Bytes, AliasError> {
        let Some(alias) = alias else {
            return if topic.is_empty() { Err(AliasError::NoTopic) } else { Ok(topic) };
        };
        if alias == 0 || alias > self.maximum {
            return Err(AliasError::TooLarge { alias, maximum: self.maximum });
        }
        let place = usize::from(alias - 1);
        if topic.is_empty() {
            return self.topics.get(place).cloned().flatten().ok_or(AliasError::Unknown(alias));
        }
        if self.topics.len() <= place {
            self.topics.resize(place + 1, None);
        }
        // A copy, since the bytes at hand keep all that was read with them.
        self.topics[place] = Some(Bytes::copy_from_slice(&topic));
        Ok(topic)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_breaks_the_protocol() {
        let mut aliases = Aliases::new(2);
        let topic = Bytes::from_static(b"a");
        assert_eq!(aliases.resolve(Some(3), topic.clone()), Err(AliasError::TooLarge { alias: 3, maximum: 2 }));
        assert_eq!(aliases.resolve(Some(0), topic.clone()), Err(AliasError::TooLarge { alias: 0, maximum: 2 }));
        assert_eq!(aliases.resolve(Some(2), Bytes::new()), Err(AliasError::Unknown(2)));
        assert_eq!(aliases.resolve(None, Bytes::new()), Err(AliasError::NoTopic));
        assert_eq!(Aliases::new(0).resolve(Some(1), topic.clone()), Err(AliasError::TooLarge { alias: 1, maximum: 0 }));
        assert_eq!(aliases.resolve(None, topic.clone()), Ok(topic));
    }

    proptest! {
        #[test]
        fn as_a_map_of_the_latest_topics(uses in proptest::collection::vec((1u16..12, "[ab]{0,2}"), 0..60)) {
            let (mut aliases, mut model) = (Aliases::new(10), HashMap::new());
            for (alias, topic) in uses {
                let expected = match (alias > 10, topic.is_empty()) {
                    (true, _) => None,
                    (false, true) => model.get(&alias).cloned(),
                    (false, false) => {
                        model.insert(alias, topic.clone());
                        Some(topic.clone())
                    }
                };
                prop_assert_eq!(aliases.resolve(Some(alias), topic.into()).ok(), expected.map(Bytes::from));
            }
        }
    }
}
