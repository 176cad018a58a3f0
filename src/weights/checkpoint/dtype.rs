//! Element types, and a decoder that turns little-endian bytes into `f32` as they arrive.

use std::fmt;

use half::f16;

use crate::error::{Error, Result};
use crate::quant::simd::widen;

/// The element type of a stored tensor, under the names of the safetensors format.
///
/// Source: `Dtype` of the safetensors crate. Every name it reads is here, so that an error can say
/// what a file holds; only [`is_float`](Self::is_float) types can be weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dtype {
    /// One byte, 0 or 1.
    Bool,
    /// 4-bit float of the MX formats.
    F4,
    /// 6-bit float, 2 bits of exponent.
    F6E2M3,
    /// 6-bit float, 3 bits of exponent.
    F6E3M2,
    /// Unsigned, 8 bits.
    U8,
    /// Signed, 8 bits.
    I8,
    /// 8-bit float, 5 bits of exponent.
    F8E5M2,
    /// 8-bit float, 4 bits of exponent.
    F8E4M3,
    /// 8-bit power of two of the MX formats.
    F8E8M0,
    /// 8-bit float, 4 bits of exponent, without negative zero.
    F8E4M3Fnuz,
    /// 8-bit float, 5 bits of exponent, without negative zero.
    F8E5M2Fnuz,
    /// Signed, 16 bits.
    I16,
    /// Unsigned, 16 bits.
    U16,
    /// IEEE half precision.
    F16,
    /// The upper half of an `f32`.
    Bf16,
    /// Signed, 32 bits.
    I32,
    /// Unsigned, 32 bits.
    U32,
    /// IEEE single precision.
    F32,
    /// Complex, two `f32`.
    C64,
    /// IEEE double precision.
    F64,
    /// Signed, 64 bits.
    I64,
    /// Unsigned, 64 bits.
    U64,
}

/// Type, safetensors name, bits of one element.
const TABLE: [(Dtype, &str, u8); 22] = [
    (Dtype::Bool, "BOOL", 8),
    (Dtype::F4, "F4", 4),
    (Dtype::F6E2M3, "F6_E2M3", 6),
    (Dtype::F6E3M2, "F6_E3M2", 6),
    (Dtype::U8, "U8", 8),
    (Dtype::I8, "I8", 8),
    (Dtype::F8E5M2, "F8_E5M2", 8),
    (Dtype::F8E4M3, "F8_E4M3", 8),
    (Dtype::F8E8M0, "F8_E8M0", 8),
    (Dtype::F8E4M3Fnuz, "F8_E4M3FNUZ", 8),
    (Dtype::F8E5M2Fnuz, "F8_E5M2FNUZ", 8),
    (Dtype::I16, "I16", 16),
    (Dtype::U16, "U16", 16),
    (Dtype::F16, "F16", 16),
    (Dtype::Bf16, "BF16", 16),
    (Dtype::I32, "I32", 32),
    (Dtype::U32, "U32", 32),
    (Dtype::F32, "F32", 32),
    (Dtype::C64, "C64", 64),
    (Dtype::F64, "F64", 64),
    (Dtype::I64, "I64", 64),
    (Dtype::U64, "U64", 64),
];

impl Dtype {
    /// The type of a safetensors name, such as `BF16`.
    pub fn from_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// Its safetensors name.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Bits of one element.
    pub fn bits(self) -> u8 {
        self.row().2
    }

    /// Bytes of `numel` elements; `None` if that overflows or isn't a whole number of bytes.
    pub fn bytes_of(self, numel: u64) -> Option<u64> {
        let bits = numel.checked_mul(u64::from(self.bits()))?;
        (bits % 8 == 0).then_some(bits / 8)
    }

    /// Whether it is one of the types that weights come in and [`Decoder`] reads:
    /// F16, BF16, F32, F64.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::Bf16 | Self::F32 | Self::F64)
    }

    fn row(self) -> &'static (Self, &'static str, u8) {
        // The table lists the variants in order, so the search never fails; a test holds that.
        TABLE.iter().find(|row| row.0 == self).unwrap_or(&TABLE[0])
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Turns the little-endian bytes of one tensor, in pieces of any length, into finite `f32`.
///
/// A piece may end inside an element. `f64` is rounded to nearest even, as
/// `load_state_dict` of torch does when it copies into an `f32` parameter; `f16` and `bf16` are
/// exact.
#[derive(Clone, Debug)]
pub struct Decoder {
    dtype: Dtype,
    /// The first bytes of an element whose rest has not arrived.
    partial: [u8; 8],
    held: usize,
    decoded: u64,
}

impl Decoder {
    /// A decoder at the first element of a tensor of `dtype`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) unless `dtype.is_float()`.
    pub fn new(dtype: Dtype) -> Result<Self> {
        if !dtype.is_float() {
            return Err(Error::unsupported(format!(
                "its elements are {dtype}; weights are F16, BF16, F32 or F64"
            )));
        }
        Ok(Self {
            dtype,
            partial: [0; 8],
            held: 0,
            decoded: 0,
        })
    }

    /// Decodes the next `bytes` and appends every element that is now complete to `out`.
    ///
    /// # Errors
    /// [`ErrorKind::Format`](crate::ErrorKind::Format) with the index of the first element that is
    /// NaN, infinite, or too large for an `f32`.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut Vec<f32>) -> Result<()> {
        let size = usize::from(self.dtype.bits() / 8);
        if self.held > 0 {
            let take = (size - self.held).min(bytes.len());
            let (head, rest) = bytes.split_at(take);
            self.partial[self.held..self.held + take].copy_from_slice(head);
            self.held += take;
            bytes = rest;
            if self.held < size {
                return Ok(());
            }
            self.held = 0;
            let element = self.partial;
            self.decode(&element[..size], out)?;
        }
        let whole = bytes.len() - bytes.len() % size;
        let (elements, rest) = bytes.split_at(whole);
        self.decode(elements, out)?;
        self.partial[..rest.len()].copy_from_slice(rest);
        self.held = rest.len();
        Ok(())
    }

    /// Ends the tensor and returns how many elements there were.
    ///
    /// # Errors
    /// [`ErrorKind::Format`](crate::ErrorKind::Format) if the bytes ended inside an element.
    pub fn finish(self) -> Result<u64> {
        if self.held > 0 {
            return Err(Error::format(format!(
                "its data end inside element {}: download the file again",
                self.decoded
            )));
        }
        Ok(self.decoded)
    }

    /// Decodes whole elements.
    fn decode(&mut self, bytes: &[u8], out: &mut Vec<f32>) -> Result<()> {
        let start = out.len();
        match self.dtype {
            Dtype::F16 => out.extend(
                bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|b| f16_to_f32(u16::from_le_bytes(*b))),
            ),
            Dtype::Bf16 => out.extend(
                bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|b| f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16)),
            ),
            Dtype::F64 => {
                #[expect(clippy::cast_possible_truncation, reason = "rounds as torch does")]
                out.extend(
                    bytes
                        .as_chunks()
                        .0
                        .iter()
                        .map(|b| f64::from_le_bytes(*b) as f32),
                );
            }
            _ => out.extend(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))),
        }
        let new = &out[start..];
        if let Some(position) = first_non_finite(new) {
            let index = self.decoded.saturating_add(position as u64);
            return Err(Error::format(format!(
                "element {index} is {}: the checkpoint is damaged or its training diverged; use another",
                if new[position].is_nan() {
                    "not a number"
                } else {
                    "infinite"
                }
            )));
        }
        self.decoded = self.decoded.saturating_add(new.len() as u64);
        Ok(())
    }
}

/// Exact; infinities and NaN stay what they are.
///
/// Without branches, so that the loop over it becomes SIMD code on every target.
const fn f16_to_f32(bits: u16) -> f32 {
    let special = if bits & 0x7fff >= f16::INFINITY.to_bits() {
        0x7f80_0000
    } else {
        0
    };
    f32::from_bits(widen(f16::from_bits(bits)).to_bits() | special)
}

/// The index of the first NaN or infinity.
fn first_non_finite(values: &[f32]) -> Option<usize> {
    const EXPONENT: u32 = 0x7f80_0000;
    // A block is judged without branches; only a bad one is searched.
    values
        .chunks(4096)
        .position(|block| {
            block
                .iter()
                .fold(false, |bad, v| bad | (v.to_bits() & EXPONENT == EXPONENT))
        })
        .and_then(|block| {
            let start = block * 4096;
            let within = values[start..].iter().position(|v| !v.is_finite())?;
            Some(start + within)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds_every_type_once() {
        for row in TABLE {
            assert_eq!(row.0.name(), row.1);
            assert_eq!(Dtype::from_name(row.1), Some(row.0));
        }
        assert_eq!(Dtype::from_name("Q9"), None);
        assert_eq!(Dtype::F4.bytes_of(3), None);
        assert_eq!(Dtype::F64.bytes_of(u64::MAX / 8), None);
    }

    #[test]
    fn every_half_is_exact() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (f16_to_f32(bits), f16::from_bits(bits).to_f32());
            assert!(
                ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(),
                "{bits:04x}: {ours} {theirs}"
            );
        }
    }
}
