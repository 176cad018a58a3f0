//! One tensor after the other, from bytes as they arrive to a parameter on its device.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

use super::checkpoint::{TensorInfo, numel};
use super::dtype::Decoder;
use super::layout::{Role, TensorSpec};
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::model::linear::Linear;
use crate::model::{Aim, Params};

/// Collects the tensors of a model on its device.
pub struct Assembler<B: Backend> {
    params: Params<B>,
    device: B::Device,
}

/// A tensor whose bytes are arriving.
pub struct Arriving {
    spec: TensorSpec,
    decoder: Decoder,
    values: Vec<f32>,
    numel: usize,
}

impl Arriving {
    /// Makes room for a tensor whose shape and type have been checked against the layout.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if its elements are no floats, [`ErrorKind::OutOfMemory`] if it
    /// does not fit.
    pub fn new(spec: TensorSpec, info: &TensorInfo) -> Result<Self> {
        let too_large = || {
            Error::new(
                ErrorKind::OutOfMemory,
                format!("tensor {} does not fit in memory", spec.name),
            )
        };
        let numel = numel(&info.shape).and_then(|numel| usize::try_from(numel).ok());
        let numel = numel.ok_or_else(too_large)?;
        let mut values = Vec::new();
        values.try_reserve_exact(numel).map_err(|_| too_large())?;
        Ok(Self {
            decoder: Decoder::new(info.dtype)?,
            spec,
            values,
            numel,
        })
    }

    /// The tensor's name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Takes the next bytes, row-major and little-endian, in pieces of any length.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if a value is not finite.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.decoder.push(bytes, &mut self.values)
    }
}

impl<B: Backend> Assembler<B> {
    /// An empty model on `device`.
    pub fn new(device: B::Device) -> Self {
        Self {
            params: Params::default(),
            device,
        }
    }

    /// Moves a complete tensor to the device and drops its bytes here.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if bytes are missing.
    pub fn add(&mut self, tensor: Arriving) -> Result<()> {
        let Arriving {
            spec,
            decoder,
            values,
            numel,
        } = tensor;
        decoder.finish()?;
        if values.len() != numel {
            return Err(Error::format(format!(
                "holds {} elements, its shape needs {numel}: download the file again",
                values.len()
            )));
        }
        match (spec.role, spec.shape.as_slice()) {
            (Role::Linear, &[d_output, d_input]) => {
                let weight = transpose(&values, d_output, d_input);
                let weight = TensorData::new(weight, [d_input, d_output]);
                let linear = Linear::new(Tensor::from_data(weight, &self.device));
                self.params.insert_linear(&spec.name, linear);
            }
            (_, shape) => {
                let flat = Tensor::from_data(TensorData::new(values, [numel]), &self.device);
                self.params.insert(&spec.name, flat, shape);
            }
        }
        Ok(())
    }

    /// Builds the model once its tensors are here.
    ///
    /// # Errors
    /// As [`Aim::new`].
    pub fn finish(self, config: Config, blocks: usize) -> Result<Aim<B>> {
        Aim::new(config, blocks, self.params, &self.device)
    }
}

/// `[rows, columns]` to `[columns, rows]`, tile by tile so that both sides stay in the cache.
fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    const TILE: usize = 32;
    let mut out = vec![0.0; values.len()];
    for top in (0..rows).step_by(TILE) {
        for left in (0..columns).step_by(TILE) {
            for row in top..(top + TILE).min(rows) {
                for column in left..(left + TILE).min(columns) {
                    out[column * rows + row] = values[row * columns + column];
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transpose_swaps_rows_and_columns_over_tile_borders() {
        let (rows, columns) = (33, 70);
        let values: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
        let transposed = transpose(&values, rows, columns);
        for row in 0..rows {
            for column in 0..columns {
                assert_eq!(
                    transposed[column * rows + row],
                    values[row * columns + column]
                );
            }
        }
    }
}
