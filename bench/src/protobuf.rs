//! The few rules of protobuf's wire format that two calls of etcd need.
//!
//! Source: the encoding chapter of the protobuf documentation. Groups (wire types 3 and 4) are refused: proto3 has none.

use bytes::{BufMut, BytesMut};
use thiserror::Error;

/// Wire type of a varint.
const VARINT: u64 = 0;
/// Wire type of eight little-endian bytes.
const FIXED64: u64 = 1;
/// Wire type of bytes with a length in front.
const LENGTH_DELIMITED: u64 = 2;
/// Wire type of four little-endian bytes.
const FIXED32: u64 = 5;

/// A varint of 64 bits takes at most this many bytes.
const VARINT_BYTES_MAX: usize = 10;

/// Why a message could not be read.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The message ends inside a field.
    #[error("the message ends inside a field")]
    Truncated,
    /// A varint is longer than 64 bits.
    #[error("a varint is longer than 64 bits")]
    VarintTooLong,
    /// The wire type is none of proto3.
    #[error("wire type {0} is none of proto3's")]
    WireType(u64),
}

/// The value of one field; fixed-width numbers are skipped by the callers of this crate, so they carry nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// An integer, a bool or an enum.
    Varint(u64),
    /// Bytes, a string or a message inside the message.
    Bytes(&'a [u8]),
    /// A number of fixed width.
    Fixed,
}

/// Appends `value` as a varint.
pub fn put_varint(out: &mut BytesMut, mut value: u64) {
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.put_u8(low);
            return;
        }
        out.put_u8(low | 0x80);
    }
}

/// Appends field `number` with `bytes` as its value.
pub fn put_bytes(out: &mut BytesMut, number: u32, bytes: &[u8]) {
    put_varint(out, (u64::from(number) << 3) | LENGTH_DELIMITED);
    put_varint(out, bytes.len() as u64);
    out.put_slice(bytes);
}

/// Reads one message, field by field, in the order of the wire.
#[derive(Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Starts at the first field of `message`.
    pub fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// The next field's number and value, or `None` at the end.
    pub fn next_field(&mut self) -> Result<Option<(u64, Value<'a>)>, DecodeError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            VARINT => Value::Varint(self.varint()?),
            LENGTH_DELIMITED => {
                let len = usize::try_from(self.varint()?).map_err(|_| DecodeError::Truncated)?;
                Value::Bytes(self.take(len)?)
            }
            FIXED64 => self.take(8).map(|_| Value::Fixed)?,
            FIXED32 => self.take(4).map(|_| Value::Fixed)?,
            other => return Err(DecodeError::WireType(other)),
        };
        Ok(Some((tag >> 3, value)))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for position in 0..VARINT_BYTES_MAX {
            let (&byte, rest) = self.rest.split_first().ok_or(DecodeError::Truncated)?;
            self.rest = rest;
            let bits = u64::from(byte & 0x7f);
            let shift = position * 7;
            // The tenth byte has room for one bit only.
            if shift == 63 && bits > 1 {
                return Err(DecodeError::VarintTooLong);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::VarintTooLong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_come_back() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut out = BytesMut::new();
            put_varint(&mut out, value);
            let mut fields = Fields::new(&out);
            assert_eq!(fields.varint(), Ok(value));
            assert!(fields.rest.is_empty());
        }
    }

    #[test]
    fn the_example_of_the_encoding_chapter() {
        let mut fields = Fields::new(&[0x08, 0x96, 0x01]);
        assert_eq!(fields.next_field(), Ok(Some((1, Value::Varint(150)))));
        assert_eq!(fields.next_field(), Ok(None));
        let mut out = BytesMut::new();
        put_bytes(&mut out, 2, b"testing");
        assert_eq!(&out[..], b"\x12\x07testing");
        assert_eq!(Fields::new(&out).next_field(), Ok(Some((2, Value::Bytes(b"testing")))));
    }

    #[test]
    fn nothing_malformed_panics() {
        assert_eq!(Fields::new(&[0x12, 0x05, 1]).next_field(), Err(DecodeError::Truncated));
        assert_eq!(Fields::new(&[0x80]).next_field(), Err(DecodeError::Truncated));
        assert_eq!(Fields::new(&[0xff; 11]).next_field(), Err(DecodeError::VarintTooLong));
        assert_eq!(Fields::new(&[0x0b]).next_field(), Err(DecodeError::WireType(3)));
        for first in 0..=u8::MAX {
            for second in 0..=u8::MAX {
                let _ = Fields::new(&[first, second]).next_field();
            }
        }
    }
}
