//! What the model asks of a backend beyond burn's own operations.

use std::fmt::Debug;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use futures_util::future::LocalBoxFuture;

use crate::error::Result;
use crate::precision::{Form, Place};
use crate::quant::{HalfMatrix, QuantMatrix};

/// A backend of burn that takes matrices as they arrive, and multiplies with such as stay packed on its
/// device.
pub trait AimBackend: Backend {
    /// A matrix of floats that is arriving.
    type Rows: Rows<Self>;

    /// A packed matrix on its device.
    type Packed: Clone + Debug;

    /// What the backend means for the choice of a precision.
    const PLACE: Place;

    /// Whether a device can hold a tensor of so many bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if it can't.
    fn check_size(bytes: u64, device: &Self::Device) -> Result<()>;

    /// Moves a matrix to a device.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if the device can't hold a matrix
    /// of its size or kind.
    fn pack(matrix: PackedMatrix, device: &Self::Device) -> Result<Self::Packed>;

    /// `y = x Wᵀ`
    ///
    /// # Shapes
    /// - `x`: `[n, d_input]`
    /// - `w`: `[d_output, d_input]`
    /// - output: `[n, d_output]`
    fn packed_matmul(x: Tensor<Self, 2>, w: &Self::Packed) -> Tensor<Self, 2>;

    /// Whether a device computes products with matrices of this form rightly.
    ///
    /// # Errors
    /// [`ErrorKind::DeviceLost`](crate::ErrorKind::DeviceLost) if it does not.
    fn self_check(form: Form, device: &Self::Device) -> LocalBoxFuture<'_, Result<()>>;
}

/// A matrix of floats that arrives in row-major order and never stands on the host whole if it is for
/// another device.
pub trait Rows<B: AimBackend>: Sized {
    /// Makes room for a matrix of `[d_output, d_input]`.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory) if it does not fit.
    fn new(d_output: usize, d_input: usize, device: &B::Device) -> Result<Self>;

    /// Takes the next values, of any number of rows and parts of rows.
    ///
    /// # Errors
    /// [`ErrorKind::Format`](crate::ErrorKind::Format) if there are more than the matrix has.
    fn push(&mut self, values: &[f32]) -> Result<()>;

    /// The matrix transposed, `[d_input, d_output]`, on its device.
    ///
    /// # Errors
    /// [`ErrorKind::Format`](crate::ErrorKind::Format) if values are missing.
    fn finish(self) -> Result<Tensor<B, 2>>;
}

/// A matrix on the host that a backend keeps packed.
#[derive(Clone, Debug)]
pub enum PackedMatrix {
    /// Codes of 4 or 8 bits.
    Quantised(QuantMatrix),
    /// 16-bit floats: only where [`Place::halves`].
    Half(HalfMatrix),
}

impl PackedMatrix {
    /// `[d_output, d_input]`
    pub const fn dims(&self) -> [usize; 2] {
        match self {
            Self::Quantised(matrix) => [matrix.d_output(), matrix.d_input()],
            Self::Half(matrix) => [matrix.d_output(), matrix.d_input()],
        }
    }
}
