//! CRC-32C (Castagnoli; RFC 3720, appendix B.4), the checksum of entries and frames.
//!
//! In software by one table of 256 words, built at compile time; with the feature `hardware-crc`
//! by the processor's instructions where it has them. Both give the same bits.

/// Continues the checksum `crc` (0 to begin) over `bytes`.
///
/// `crc32c(crc32c(0, a), b)` is the checksum of `a` followed by `b`.
#[cfg(not(feature = "hardware-crc"))]
#[must_use]
pub fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    software(crc, bytes)
}

/// Continues the checksum `crc` (0 to begin) over `bytes`.
///
/// `crc32c(crc32c(0, a), b)` is the checksum of `a` followed by `b`.
#[cfg(feature = "hardware-crc")]
#[inline]
#[must_use]
pub fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new_with_init_state(crc_fast::CrcAlgorithm::Crc32Iscsi, u64::from(!crc));
    digest.update(bytes);
    let [b0, b1, b2, b3, ..] = digest.finalize().to_le_bytes();
    u32::from_le_bytes([b0, b1, b2, b3])
}

/// The reflected polynomial 0x1EDC6F41.
const POLYNOMIAL: u32 = 0x82f6_3b78;

static TABLE: [u32; 256] = table();

#[allow(clippy::indexing_slicing, reason = "const evaluation: out of bounds fails the build")]
#[allow(clippy::cast_possible_truncation, reason = "the loop runs over 0..256")]
const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

#[cfg_attr(feature = "hardware-crc", allow(dead_code, reason = "the twin that tests compare with"))]
fn software(crc: u32, bytes: &[u8]) -> u32 {
    let mut crc = !crc;
    for &byte in bytes {
        let [low, ..] = crc.to_le_bytes();
        let slot = usize::from(low ^ byte);
        // The table has an element for every value of a byte, so `get` never fails.
        crc = (crc >> 8) ^ TABLE.get(slot).copied().unwrap_or(0);
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of RFC 3720, appendix B.4.
    #[test]
    fn known_vectors() {
        assert_eq!(crc32c(0, b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(0, &[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(0, &[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn software_and_the_chosen_one_agree_at_every_split() {
        let bytes: std::vec::Vec<u8> = (0..300u32).map(|n| u8::try_from(n * 7 % 251).unwrap()).collect();
        let whole = crc32c(0, &bytes);
        for split in 0..bytes.len() {
            let (head, tail) = bytes.split_at(split);
            assert_eq!(software(software(0, head), tail), whole);
            assert_eq!(crc32c(crc32c(0, head), tail), whole);
        }
    }
}
