//! A matrix of 16-bit floats, two to a word, as a GPU's kernel reads it.

use half::f16;

use crate::error::{Error, Result};
use crate::memory;

/// A matrix `[d_output, d_input]` of f16, two neighbours of a row to a 32-bit word, the first in
/// the low half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HalfMatrix {
    d_output: usize,
    d_input: usize,
    words: Vec<u32>,
}

impl HalfMatrix {
    /// Rows: the length of the product with a vector.
    pub const fn d_output(&self) -> usize {
        self.d_output
    }

    /// Columns: the length of a vector to multiply with.
    pub const fn d_input(&self) -> usize {
        self.d_input
    }

    /// `[d_output, d_input / 2]`
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// The words, to move them to a device.
    pub fn into_words(self) -> Vec<u32> {
        self.words
    }
}

/// Rounds one matrix to f16 whose rows arrive in pieces of any length.
#[derive(Debug)]
pub struct HalfMatrixBuilder {
    d_output: usize,
    d_input: usize,
    /// How many words the matrix has.
    len: usize,
    words: Vec<u32>,
    /// A weight whose neighbour has not arrived.
    first: Option<f16>,
}

impl HalfMatrixBuilder {
    /// For a matrix `[d_output, d_input]`.
    ///
    /// # Errors
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if `d_input` is odd or the
    ///   matrix passes the platform's address space;
    /// - [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory) if there is no room for it.
    pub fn new(d_output: usize, d_input: usize) -> Result<Self> {
        let numel = d_output.checked_mul(d_input);
        let Some(len) = numel.filter(|_| d_input.is_multiple_of(2)).map(|n| n / 2) else {
            return Err(Error::unsupported(format!(
                "a matrix of {d_output} x {d_input} weights can't be packed in pairs"
            )));
        };
        Ok(Self {
            d_output,
            d_input,
            len,
            words: memory::with_capacity(Some(len))?,
            first: None,
        })
    }

    /// Takes the next weights, row after row.
    ///
    /// # Errors
    /// - [`ErrorKind::Format`](crate::ErrorKind::Format) if a weight is infinite or not a number;
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if its magnitude is over 65504;
    /// - [`ErrorKind::Option`](crate::ErrorKind::Option) if there are more than
    ///   `d_output * d_input` weights.
    pub fn push(&mut self, weights: &[f32]) -> Result<()> {
        let held = usize::from(self.first.is_some());
        if (weights.len() + held).div_ceil(2) > self.len - self.words.len() {
            return Err(Error::option(format!(
                "more weights than a matrix of {} x {} has",
                self.d_output, self.d_input
            )));
        }
        for &weight in weights {
            let half = f16::from_f32(weight);
            if !half.is_finite() {
                return Err(if weight.is_finite() {
                    Error::unsupported(format!(
                        "the weight {weight:e} is over the range of float16: use fp32"
                    ))
                } else {
                    Error::format(format!("a weight is {weight}, not a finite number"))
                });
            }
            match self.first.take() {
                None => self.first = Some(half),
                Some(first) => self.words.push(pair(first, half)),
            }
        }
        Ok(())
    }

    /// The matrix, once all weights have arrived.
    ///
    /// # Errors
    /// [`ErrorKind::Format`](crate::ErrorKind::Format) if weights are missing.
    pub fn finish(self) -> Result<HalfMatrix> {
        if self.words.len() != self.len || self.first.is_some() {
            return Err(Error::format(format!(
                "{} weights of {} x {} are there",
                2 * self.words.len() + usize::from(self.first.is_some()),
                self.d_output,
                self.d_input
            )));
        }
        Ok(HalfMatrix {
            d_output: self.d_output,
            d_input: self.d_input,
            words: self.words,
        })
    }
}

/// Two halves in a word, the first in the low bits.
pub(crate) fn pair(low: f16, high: f16) -> u32 {
    u32::from(low.to_bits()) | u32::from(high.to_bits()) << 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn neighbours_share_a_word_whatever_the_pieces() {
        let weights = [1.0, -2.0, 0.5, 65504.0, 1e-7, 0.1, 3.0, 4.0];
        let mut builder = HalfMatrixBuilder::new(2, 4).unwrap();
        for piece in [&weights[..3], &weights[3..4], &[], &weights[4..]] {
            builder.push(piece).unwrap();
        }
        let matrix = builder.finish().unwrap();
        for (i, weight) in weights.into_iter().enumerate() {
            let bits = matrix.words()[i / 2] >> (16 * (i % 2)) & 0xffff;
            assert_eq!(bits, u32::from(f16::from_f32(weight).to_bits()));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert_eq!(
            HalfMatrixBuilder::new(1, 3).unwrap_err().kind(),
            ErrorKind::Unsupported
        );
        assert_eq!(
            HalfMatrixBuilder::new(usize::MAX, 2).unwrap_err().kind(),
            ErrorKind::Unsupported
        );
        let mut builder = HalfMatrixBuilder::new(1, 4).unwrap();
        for (weight, kind) in [
            (f32::NAN, ErrorKind::Format),
            (f32::INFINITY, ErrorKind::Format),
            (7e4, ErrorKind::Unsupported),
        ] {
            assert_eq!(builder.push(&[weight]).unwrap_err().kind(), kind);
        }
        builder.push(&[1.0; 3]).unwrap();
        assert_eq!(
            builder.push(&[1.0; 2]).unwrap_err().kind(),
            ErrorKind::Option
        );
        assert_eq!(builder.finish().unwrap_err().kind(), ErrorKind::Format);
    }
}
