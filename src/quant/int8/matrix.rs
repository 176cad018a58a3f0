//! A quantised matrix as the kernels read it, and the product with it.

use std::ops::Range;

use half::f16;

use super::activations::Rows;
use super::kernel::{Kernel, PanelLayout, Proven};
use super::product::Product;
use crate::error::{Error, Result};
use crate::memory;
use crate::quant::{Bits, QuantMatrix, Scheme};

/// What becomes of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// It replaces what was there.
    Over,
    /// It is added to what was there.
    Add,
}

/// A matrix `[d_output, d_input]` in the order that a kernel reads.
///
/// Rows lie in panels of as many as a kernel multiplies together, and in a panel the words of all rows for the same
/// columns are neighbours. Codes keep their number of bits; the last panel is filled up with zeros.
#[derive(Debug)]
pub struct IntMatrix {
    kernel: Proven,
    layout: PanelLayout,
    d_output: usize,
    d_input: usize,
    scheme: Scheme,
    /// `[panels, d_input * bits / 32, columns]`, each word arranged by [`Arrangement`].
    codes: Vec<u32>,
    /// `[panels, d_input / group_size, columns]`
    scales: Vec<f16>,
    /// As `scales`.
    biases: Vec<f16>,
    /// `[panels, columns]`: of the weights of each row.
    sums: Vec<f32>,
}

impl IntMatrix {
    /// A range of outputs starts at a multiple of this. All kernels compute as many, or a divisor, together.
    pub const STEP: usize = 32;

    /// Takes a matrix over, for the best kernel that this machine has. Needs room for it twice while it does.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory) if there is no room for it.
    pub fn new(matrix: QuantMatrix) -> Result<Self> {
        let kernel = Kernel::best(matrix.scheme().bits());
        Self::for_kernel(matrix, kernel)
    }

    /// Takes a matrix over, for a kernel.
    ///
    /// # Errors
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if this machine does not have it: see
    ///   [`Kernel::is_available`];
    /// - [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory) if there is no room for the matrix.
    pub fn for_kernel(matrix: QuantMatrix, kernel: Kernel) -> Result<Self> {
        let scheme = matrix.scheme();
        let Some(kernel) = Proven::new(kernel, scheme.bits()) else {
            return Err(Error::unsupported(format!(
                "this machine has no kernel {kernel:?} for {} bits",
                scheme.bits().get()
            )));
        };
        let layout = kernel.layout();
        let (d_output, d_input) = (matrix.d_output(), matrix.d_input());
        let sizes = matrix.sizes();
        let rows = d_output
            .checked_next_multiple_of(layout.columns)
            .filter(|rows| rows.checked_mul(d_input).is_some())
            .ok_or_else(|| Error::unsupported("a matrix passes the platform's address space"))?;
        let mut codes = zeros(rows * sizes.words_per_row)?;
        let mut scales = zeros(rows * sizes.groups_per_row)?;
        let mut biases = zeros(rows * sizes.groups_per_row)?;
        let mut sums = zeros(rows)?;
        let arrangement = Arrangement::of(scheme.bits(), layout);
        for (row, sum) in sums.iter_mut().enumerate().take(d_output) {
            let (panel, column) = (row / layout.columns, row % layout.columns);
            let places =
                |per_row: usize| (panel * per_row * layout.columns + column, layout.columns);

            let words = matrix.row_codes(row);
            let (start, step) = places(sizes.words_per_row);
            let to = codes.iter_mut().skip(start).step_by(step);
            for (to, word) in to.zip(words) {
                *to = arrangement.apply(*word);
            }

            let (row_scales, row_biases) = matrix.row_groups(row);
            let (start, step) = places(sizes.groups_per_row);
            for (to, from) in [(&mut scales, row_scales), (&mut biases, row_biases)] {
                let to = to.iter_mut().skip(start).step_by(step);
                to.zip(from).for_each(|(to, value)| *to = *value);
            }

            let groups = words.chunks_exact(scheme.words_per_group());
            let total: f64 = groups
                .zip(row_scales.iter().zip(row_biases))
                .map(|(words, (scale, bias))| {
                    let codes: u32 = words.iter().map(|word| sum_of(scheme.bits(), *word)).sum();
                    scale.to_f64() * f64::from(codes) + bias.to_f64() * scheme.group_size() as f64
                })
                .sum();
            *sum = total as f32;
        }
        Ok(Self {
            kernel,
            layout,
            d_output,
            d_input,
            scheme,
            codes,
            scales,
            biases,
            sums,
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

    /// Bytes in memory.
    pub const fn bytes(&self) -> usize {
        // In range: they lie in memory.
        4 * self.codes.len() + 4 * self.scales.len() + 4 * self.sums.len()
    }

    pub(super) const fn kernel(&self) -> Proven {
        self.kernel
    }

    pub(super) const fn layout(&self) -> PanelLayout {
        self.layout
    }

    /// Codes of a panel: `[d_input * bits / 32, columns]`.
    #[inline(always)]
    pub(super) fn panel_codes(&self, panel: usize) -> &[u32] {
        let len = self.d_input / self.scheme.bits().codes_per_word() * self.layout.columns;
        &self.codes[panel * len..][..len]
    }

    /// Scales and biases of a panel, each `[d_input / group_size, columns]`.
    #[inline(always)]
    pub(super) fn panel_groups(&self, panel: usize) -> (&[f16], &[f16]) {
        let len = self.d_input / self.scheme.group_size() * self.layout.columns;
        (
            &self.scales[panel * len..][..len],
            &self.biases[panel * len..][..len],
        )
    }

    /// Sums of the weights of each row of a panel: `[columns]`.
    #[inline(always)]
    pub(super) fn panel_sums(&self, panel: usize) -> &[f32] {
        &self.sums[panel * self.layout.columns..][..self.layout.columns]
    }

    /// Computes some columns of `y = x Wᵀ`. Allocates nothing.
    ///
    /// Sums run over `d_input` in an order that depends on the kernel alone, not on which rows and outputs are asked for.
    ///
    /// # Shapes
    /// - `x`: `[n, d_input]`, prepared for this matrix, or one of the same kernel, scheme and `d_input`
    /// - `outputs`: which rows of `W`, from a multiple of [`STEP`](Self::STEP)
    /// - `y`: `n` rows of `outputs.len()` values, each `stride` after the one before
    ///
    /// # Errors
    /// [`ErrorKind::Option`](crate::ErrorKind::Option) if the shapes don't fit.
    pub fn product(
        &self,
        x: Rows<'_>,
        outputs: Range<usize>,
        y: &mut [f32],
        stride: usize,
        write: Write,
    ) -> Result<()> {
        let inside = outputs.start <= outputs.end && outputs.end <= self.d_output;
        let room = match x.len() {
            0 => Some(0),
            n => (n - 1)
                .checked_mul(stride)
                .and_then(|len| len.checked_add(outputs.len())),
        };
        if !inside
            || !outputs.start.is_multiple_of(Self::STEP)
            || outputs.len() > stride
            || room.is_none_or(|room| room > y.len())
            || !x.fits(self)
        {
            return Err(Error::option(format!(
                "{} rows of {} activations do not fit outputs {outputs:?} of a matrix of {} x {}, or the room for them",
                x.len(),
                x.d_input(),
                self.d_output,
                self.d_input
            )));
        }
        if !x.is_empty() && !outputs.is_empty() {
            self.kernel.vectorize(Product {
                w: self,
                x,
                outputs,
                y,
                stride,
                write,
            });
        }
        Ok(())
    }
}

fn zeros<T: Clone + Default>(len: usize) -> Result<Vec<T>> {
    let mut values = memory::with_capacity(Some(len))?;
    values.resize(len, T::default());
    Ok(values)
}

/// Where the codes are in a word.
///
/// A word becomes several words of a kernel's operand by shifts and a mask: step `s` of a word is
/// `word >> (bits * s) & mask`, in which code `e` of the step lies at bit `32 / step * e`. So of a kernel that takes
/// `step` codes, code `step * s + e` of the word lies at bit `32 / step * e + bits * s`.
#[derive(Clone, Copy, Debug)]
enum Arrangement {
    /// 8 bits, four a step: as in a file.
    Bytes,
    /// The same, less 128.
    SignedBytes,
    /// 8 bits, two a step.
    BytePairs,
    /// 4 bits, four a step.
    Nibbles,
    /// 4 bits, two a step.
    NibblePairs,
}

impl Arrangement {
    const fn of(bits: Bits, layout: PanelLayout) -> Self {
        match (bits, layout.step) {
            (Bits::Eight, 2) => Self::BytePairs,
            (Bits::Eight, _) if layout.signed => Self::SignedBytes,
            (Bits::Eight, _) => Self::Bytes,
            (Bits::Four, 2) => Self::NibblePairs,
            (Bits::Four, _) => Self::Nibbles,
        }
    }

    /// From the order of a file.
    const fn apply(self, word: u32) -> u32 {
        match self {
            Self::Bytes => word,
            Self::SignedBytes => word ^ 0x8080_8080,
            Self::BytePairs => word & 0xff00_00ff | (word & 0xff00) << 8 | word >> 8 & 0xff00,
            Self::Nibbles => spread(word & 0xffff) | spread(word >> 16) << 4,
            Self::NibblePairs => gather(word) | gather(word >> 4) << 16,
        }
    }
}

/// Four nibbles to four bytes.
const fn spread(nibbles: u32) -> u32 {
    let pairs = (nibbles | nibbles << 8) & 0x00ff_00ff;
    (pairs | pairs << 4) & 0x0f0f_0f0f
}

/// The low nibbles of four bytes to four nibbles.
const fn gather(bytes: u32) -> u32 {
    let nibbles = bytes & 0x0f0f_0f0f;
    let pairs = (nibbles | nibbles >> 4) & 0x00ff_00ff;
    (pairs | pairs >> 8) & 0xffff
}

/// The sum of the codes in a word.
const fn sum_of(bits: Bits, word: u32) -> u32 {
    let bytes = match bits {
        Bits::Four => (word & 0x0f0f_0f0f) + (word >> 4 & 0x0f0f_0f0f),
        Bits::Eight => word,
    };
    let pairs = (bytes & 0x00ff_00ff) + (bytes >> 8 & 0x00ff_00ff);
    (pairs & 0xffff) + (pairs >> 16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn codes_lie_where_a_shift_and_a_mask_find_them(word: u32) {
            for (bits, step, signed) in [
                (Bits::Eight, 4, false),
                (Bits::Eight, 4, true),
                (Bits::Eight, 2, false),
                (Bits::Four, 4, false),
                (Bits::Four, 4, true),
                (Bits::Four, 2, false),
            ] {
                let layout = PanelLayout { step, signed, columns: 8, rows: 6 };
                let arranged = Arrangement::of(bits, layout).apply(word);
                let code = |word: u32, at: usize| word >> at & bits.max_code();
                let mut sum = 0;
                for i in 0..bits.codes_per_word() {
                    let (s, e) = (i / step, i % step);
                    let want = code(word, i * bits.get());
                    sum += want;
                    let flip = if signed && bits == Bits::Eight { 128 } else { 0 };
                    prop_assert_eq!(code(arranged, 32 / step * e + bits.get() * s) ^ flip, want);
                }
                prop_assert_eq!(sum_of(bits, word), sum);
            }
        }
    }
}
