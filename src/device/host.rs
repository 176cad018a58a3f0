//! Tensors in host memory, and how they get there.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use crate::error::{Error, ErrorKind, Result};

/// A row-major f32 tensor in host memory.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTensor {
    /// Its sizes, outermost first.
    pub shape: Vec<usize>,
    /// As many values as the shape holds.
    pub values: Vec<f32>,
}

/// Brings a tensor to the host.
///
/// # Errors
/// [`ErrorKind::DeviceLost`] if the device stops before the data is here.
pub async fn read<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Result<HostTensor> {
    let lost = |reason: String| {
        Error::new(
            ErrorKind::DeviceLost,
            format!("the device gave no result: {reason}"),
        )
    };
    let shape = tensor.dims().to_vec();
    let data = tensor
        .into_data_async()
        .await
        .map_err(|error| lost(error.to_string()))?;
    let values = data
        .into_vec()
        .map_err(|error| lost(format!("{error:?}")))?;
    Ok(HostTensor { shape, values })
}
