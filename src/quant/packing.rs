//! Codes and the 32-bit words that hold them, low bits first.
//!
//! Code `i` of a row lies in word `i / n`, at bit `i % n * bits`, where a word holds `n = 32 / bits`
//! codes. In files the words are little-endian, so that codes of 8 bits are a plain array of bytes.
//! Source: MLX's affine quantisation.

use super::scheme::Bits;

/// One word from at most [`Bits::codes_per_word`] codes, each at most [`Bits::max_code`].
#[inline(always)]
pub(super) fn word_of(bits: Bits, codes: impl Iterator<Item = u32>) -> u32 {
    codes
        .take(bits.codes_per_word())
        .enumerate()
        .fold(0, |word, (i, code)| word | code << (i * bits.get()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_bits_come_first() {
        let four = word_of(Bits::Four, [1, 2, 3, 4, 5, 6, 7, 15].into_iter());
        assert_eq!(four, 0xf765_4321);
        let eight = word_of(Bits::Eight, [0x11, 0x22, 0x33, 0xff].into_iter());
        assert_eq!(eight, 0xff33_2211);
    }
}
