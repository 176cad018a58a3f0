//! Between candle's tensors and slices.

use burn::tensor::{Tensor, TensorData, TensorPrimitive};
use burn_candle::CandleTensor;

use super::Cpu;
use crate::error::Result;

/// The values of a tensor, row-major: a copy.
pub(super) fn values<const D: usize>(tensor: Tensor<Cpu, D>) -> Vec<f32> {
    // Of this backend's own type, so that there is nothing to convert.
    tensor.into_data().into_vec().unwrap_or_default()
}

/// A tensor of values, which must be as many as the shape has.
pub(super) fn from_values<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Tensor<Cpu, D> {
    // burn's own way makes a copy.
    match candle_core::Tensor::from_vec(values, shape.as_slice(), &candle_core::Device::Cpu) {
        Ok(tensor) => Tensor::from_primitive(TensorPrimitive::Float(CandleTensor::new(tensor))),
        Err(_) => {
            let nan = vec![f32::NAN; shape.iter().product()];
            Tensor::from_data(TensorData::new(nan, shape), &super::device())
        }
    }
}

/// What a failure leaves: never, as the layers have checked the shapes; but then not in silence.
pub(super) fn or_nan(done: Result<()>, values: &mut [f32]) {
    if done.is_err() {
        values.fill(f32::NAN);
    }
}
