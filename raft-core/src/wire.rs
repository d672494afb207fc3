//! Helpers of the message encodings, which are postcard (its wire format specification, version 1).

use core::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes that are borrowed from what they are decoded from, and copied as one run when encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bytes<'a>(pub &'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Bytes<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bytes<'a>, D::Error> {
        struct Borrow;

        impl<'de> Visitor<'de> for Borrow {
            type Value = &'de [u8];

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a run of bytes")
            }

            fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<&'de [u8], E> {
                Ok(bytes)
            }
        }

        deserializer.deserialize_bytes(Borrow).map(Bytes)
    }
}

/// Encodes a value whose last field is an empty [`Bytes`] as if that field had `tail_bytes` bytes,
/// which the caller then puts behind what is given back. So a long field is never copied twice.
///
/// `None` if `buffer` is too short, or the value does not end in an empty run of bytes.
pub(crate) fn encode_with_tail<'b, T: Serialize>(
    value: &T,
    tail_bytes: usize,
    buffer: &'b mut [u8],
) -> Option<&'b [u8]> {
    let length = postcard::to_slice(value, buffer).ok()?.len();
    if tail_bytes == 0 {
        return buffer.get(..length);
    }
    // The empty run is one byte, its length 0, in whose place the true length is written.
    let at = length.checked_sub(1)?;
    if *buffer.get(at)? != 0 {
        return None;
    }
    let tail_length = postcard::to_slice(&u64::try_from(tail_bytes).ok()?, buffer.get_mut(at..)?).ok()?.len();
    buffer.get(..at + tail_length)
}
