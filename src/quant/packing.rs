//! Codes and the 32-bit words that hold them, low bits first.
//!
//! Code `i` of a row lies in word `i / n`, at bit `i % n * bits`, where a word holds `n = 32 / bits`
//! codes. In files the words are little-endian, so that codes of 8 bits are a plain array of bytes.
//! Source: MLX's affine quantisation.

use super::scheme::Bits;
use crate::error::{Error, Result};

/// Packs `codes` into `words`.
///
/// # Shapes
/// - `codes`: `[n * words.len()]`, each at most [`Bits::max_code`]
/// - `words`: overwritten
///
/// # Errors
/// [`ErrorKind::Option`](crate::ErrorKind::Option) if the lengths don't fit or a code is too large.
pub fn pack(bits: Bits, codes: &[u8], words: &mut [u32]) -> Result<()> {
    check(bits, codes.len(), words.len())?;
    let max = bits.max_code();
    if let Some(at) = codes.iter().position(|&code| u32::from(code) > max) {
        return Err(Error::option(format!("code {at} is over {max}")));
    }
    for (word, codes) in words
        .iter_mut()
        .zip(codes.chunks_exact(bits.codes_per_word()))
    {
        *word = word_of(bits, codes.iter().map(|&code| u32::from(code)));
    }
    Ok(())
}

/// Unpacks `words` into `codes`.
///
/// # Shapes
/// - `words`: any
/// - `codes`: `[n * words.len()]`, overwritten
///
/// # Errors
/// [`ErrorKind::Option`](crate::ErrorKind::Option) if the lengths don't fit.
pub fn unpack(bits: Bits, words: &[u32], codes: &mut [u8]) -> Result<()> {
    check(bits, codes.len(), words.len())?;
    for (word, codes) in words
        .iter()
        .zip(codes.chunks_exact_mut(bits.codes_per_word()))
    {
        for (i, code) in codes.iter_mut().enumerate() {
            // The mask leaves at most 8 bits.
            *code = (word >> (i * bits.get()) & bits.max_code()) as u8;
        }
    }
    Ok(())
}

/// One word from at most [`Bits::codes_per_word`] codes, each at most [`Bits::max_code`].
#[inline(always)]
pub(super) fn word_of(bits: Bits, codes: impl Iterator<Item = u32>) -> u32 {
    codes
        .take(bits.codes_per_word())
        .enumerate()
        .fold(0, |word, (i, code)| word | code << (i * bits.get()))
}

fn check(bits: Bits, codes: usize, words: usize) -> Result<()> {
    if words.checked_mul(bits.codes_per_word()) == Some(codes) {
        return Ok(());
    }
    Err(Error::option(format!(
        "{codes} codes of {} bits do not fill {words} words",
        bits.get()
    )))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn low_bits_come_first() {
        let mut words = [0];
        pack(Bits::Four, &[1, 2, 3, 4, 5, 6, 7, 15], &mut words).unwrap();
        assert_eq!(words, [0xf765_4321]);
        pack(Bits::Eight, &[0x11, 0x22, 0x33, 0xff], &mut words).unwrap();
        assert_eq!(words, [0xff33_2211]);
    }

    #[test]
    fn wrong_lengths_and_codes_are_refused() {
        let mut words = [0; 2];
        for (codes, bits) in [
            (&[0; 15][..], Bits::Four),
            (&[0; 16], Bits::Eight),
            (&[16; 16], Bits::Four),
        ] {
            assert_eq!(
                pack(bits, codes, &mut words).unwrap_err().kind(),
                ErrorKind::Option
            );
        }
        let mut codes = [0; 9];
        assert!(unpack(Bits::Four, &words, &mut codes).is_err());
    }

    proptest! {
        #[test]
        fn unpacking_undoes_packing(words in proptest::collection::vec(any::<u32>(), 0..20), eight: bool) {
            let bits = if eight { Bits::Eight } else { Bits::Four };
            let mut codes = vec![0; words.len() * bits.codes_per_word()];
            unpack(bits, &words, &mut codes).unwrap();
            // The definition, bit by bit.
            for (i, &code) in codes.iter().enumerate() {
                for bit in 0..bits.get() {
                    let at = i * bits.get() + bit;
                    prop_assert_eq!(u32::from(code >> bit) & 1, words[at / 32] >> (at % 32) & 1);
                }
            }
            let mut again = vec![0; words.len()];
            pack(bits, &codes, &mut again).unwrap();
            prop_assert_eq!(again, words);
        }
    }
}
