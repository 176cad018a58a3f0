//! What a checkpoint says about one tensor.

use super::dtype::Dtype;

/// What a checkpoint says about one tensor, without its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its key in the file, such as `trunk.blocks.0.norm_1.weight`.
    ///
    /// Comes from the file: pass it through [`printable`](crate::printable) before showing it.
    pub name: String,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its sizes, outermost first; the product times the element size fits in 64 bits.
    pub shape: Vec<usize>,
}

impl TensorInfo {
    /// How many elements it has.
    pub fn numel(&self) -> u64 {
        numel(&self.shape).unwrap_or(u64::MAX)
    }

    /// How many bytes they take.
    pub fn bytes(&self) -> u64 {
        self.dtype.bytes_of(self.numel()).unwrap_or(u64::MAX)
    }
}

/// The product of a shape, if it fits.
pub(in crate::weights) fn numel(shape: &[usize]) -> Option<u64> {
    shape.iter().try_fold(1_u64, |product, &d| {
        product.checked_mul(u64::try_from(d).ok()?)
    })
}
