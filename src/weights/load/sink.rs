//! What takes a model's tensors as they arrive: a model on its device, or files to be written.

use crate::error::Result;
use crate::weights::checkpoint::tensor_info::TensorInfo;
use crate::weights::inventory::Located;
use crate::weights::layout::TensorSpec;

/// Something that takes tensors one after the other, as they arrive.
pub trait Sink {
    /// True if it takes the tensor; of others no byte is fetched for their own sake.
    fn wants(&self, spec: &TensorSpec) -> bool;

    /// The next tensor: which it is, and what its file says of it. One that was taken before, or whose
    /// bytes were coming, begins anew: those were damaged.
    ///
    /// # Errors
    /// Whatever makes the tensor impossible to take.
    fn begin(&mut self, located: Located, info: &TensorInfo) -> Result<()>;

    /// The next of its bytes, row-major and little-endian.
    ///
    /// # Errors
    /// Whatever makes the bytes impossible to take.
    fn push(&mut self, bytes: &[u8]) -> Result<()>;

    /// All its bytes were there.
    ///
    /// # Errors
    /// Whatever makes the tensor impossible to take.
    fn end(&mut self) -> Result<()>;
}
