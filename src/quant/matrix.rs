//! A quantised matrix in memory.

use half::f16;

use super::scheme::{Scheme, Sizes};
use crate::error::{Error, Result};

/// A matrix of 4- or 8-bit codes with a scale and a bias for each group.
///
/// The weight of row `o`, column `i` is `scales[o][i / group] * code[o][i] + biases[o][i / group]`,
/// computed in f32.
///
/// Every constructor checks that the lengths agree and that scales and biases are finite, so that
/// the kernels need not.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantMatrix {
    d_output: usize,
    d_input: usize,
    scheme: Scheme,
    sizes: Sizes,
    codes: Vec<u32>,
    scales: Vec<f16>,
    biases: Vec<f16>,
}

impl QuantMatrix {
    /// A matrix `[d_output, d_input]` from its parts.
    ///
    /// # Shapes
    /// - `codes`: `[d_output, d_input * bits / 32]`, the low bits of a word first
    /// - `scales`, `biases`: `[d_output, d_input / group_size]`
    ///
    /// # Errors
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if the scheme does not fit `d_input`;
    /// - [`ErrorKind::Format`](crate::ErrorKind::Format) if a length is wrong or a scale or bias is infinite or not a number.
    pub fn new(
        d_output: usize,
        d_input: usize,
        scheme: Scheme,
        codes: Vec<u32>,
        scales: Vec<f16>,
        biases: Vec<f16>,
    ) -> Result<Self> {
        let sizes = scheme.sizes(d_output, d_input)?;
        check_len("codes", "words", codes.len(), sizes.words)?;
        check_len("scales", "values", scales.len(), sizes.groups)?;
        check_len("biases", "values", biases.len(), sizes.groups)?;
        for (what, values) in [("scale", &scales), ("bias", &biases)] {
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                return Err(not_finite(what, at, sizes));
            }
        }
        Ok(Self {
            d_output,
            d_input,
            scheme,
            sizes,
            codes,
            scales,
            biases,
        })
    }

    /// Rows: the length of the product with a vector.
    pub const fn d_output(&self) -> usize {
        self.d_output
    }

    /// Columns: the length of a vector to multiply with.
    pub const fn d_input(&self) -> usize {
        self.d_input
    }

    /// Bits a code and weights a group.
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Lengths of the parts.
    pub const fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// `[d_output, d_input * bits / 32]`
    pub fn codes(&self) -> &[u32] {
        &self.codes
    }

    /// `[d_output, d_input / group_size]`
    pub fn scales(&self) -> &[f16] {
        &self.scales
    }

    /// `[d_output, d_input / group_size]`
    pub fn biases(&self) -> &[f16] {
        &self.biases
    }

    /// Codes, scales and biases, to move them to a device.
    pub fn into_parts(self) -> (Vec<u32>, Vec<f16>, Vec<f16>) {
        (self.codes, self.scales, self.biases)
    }

    /// Bytes of codes, scales and biases, in memory and in a file.
    pub const fn bytes(&self) -> usize {
        // In range: the three lie in memory.
        self.sizes.words * 4 + self.sizes.groups * 4
    }

    /// The tensor `X.weight` of a file: U32 `[d_output, d_input * bits / 32]`, little-endian.
    pub fn code_bytes(&self) -> Vec<u8> {
        self.codes
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect()
    }

    /// The tensor `X.scales` of a file: F16 `[d_output, d_input / group_size]`, little-endian.
    pub fn scale_bytes(&self) -> Vec<u8> {
        self.scales
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    }

    /// The tensor `X.biases` of a file: F16 `[d_output, d_input / group_size]`, little-endian.
    pub fn bias_bytes(&self) -> Vec<u8> {
        self.biases
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    }

    /// Codes of a row: `[d_input * bits / 32]`; empty past the last row.
    #[inline(always)]
    pub(super) fn row_codes(&self, row: usize) -> &[u32] {
        part(&self.codes, row, self.sizes.words_per_row)
    }

    /// Scales and biases of a row, each `[d_input / group_size]`; empty past the last row.
    #[inline(always)]
    pub(super) fn row_groups(&self, row: usize) -> (&[f16], &[f16]) {
        let len = self.sizes.groups_per_row;
        (part(&self.scales, row, len), part(&self.biases, row, len))
    }
}

/// Part `at` of parts of `len` values.
#[inline(always)]
fn part<T>(values: &[T], at: usize, len: usize) -> &[T] {
    let start = at.saturating_mul(len);
    values
        .get(start..start.saturating_add(len))
        .unwrap_or_default()
}

fn check_len(what: &str, unit: &str, len: usize, want: usize) -> Result<()> {
    if len == want {
        return Ok(());
    }
    Err(Error::format(format!(
        "{what}: {len} {unit}, expected {want}"
    )))
}

fn place(at: usize, sizes: Sizes) -> String {
    let per_row = sizes.groups_per_row.max(1);
    format!("row {}, group {}", at / per_row, at % per_row)
}

fn not_finite(what: &str, at: usize, sizes: Sizes) -> Error {
    Error::format(format!(
        "the {what} of {} is infinite or not a number",
        place(at, sizes)
    ))
}
