//! Between candle's tensors and slices.

use std::cell::Cell;

use burn::tensor::{Tensor, TensorData, TensorPrimitive};
use burn_candle::CandleTensor;

use super::Cpu;
use crate::error::{Error, Result};

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
        Err(error) => {
            fail(Error::unsupported(format!(
                "the CPU takes no tensor of shape {shape:?}: {error}"
            )));
            let nan = vec![f32::NAN; shape.iter().product()];
            Tensor::from_data(TensorData::new(nan, shape), &super::device())
        }
    }
}

thread_local! {
    /// The first failure of a part that ran on this thread, until somebody asks.
    static FAILURE: Cell<Option<Error>> = const { Cell::new(None) };
}

/// A failure leaves no numbers behind, and is kept for [`failure`].
pub(super) fn or_nan(done: Result<()>, values: &mut [f32]) {
    if let Err(error) = done {
        values.fill(f32::NAN);
        fail(error);
    }
}

/// Keeps a failure, unless there is one.
pub(super) fn fail(error: Error) {
    let first = FAILURE.take().unwrap_or(error);
    FAILURE.set(Some(first));
}

/// The failure that was kept.
pub(super) fn failure() -> Result<()> {
    FAILURE.take().map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_failure_is_reported_once_and_not_taken_for_broken_weights() {
        let mut values = [1.0; 3];
        or_nan(Ok(()), &mut values);
        assert!(failure().is_ok());
        or_nan(Err(Error::option("the first")), &mut values);
        or_nan(Err(Error::format("its consequence")), &mut values);
        assert!(values.iter().all(|value| value.is_nan()));
        let error = failure().unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string()),
            (ErrorKind::Option, "the first".to_owned())
        );
        assert!(failure().is_ok());
    }
}
