//! Matrices of floats on the CPU: transposed as they arrive.

use burn::tensor::{Tensor, TensorData};

use super::backend::{AimBackend, Rows};
use crate::error::{Error, ErrorKind, Result};

/// Rows that are transposed at once, which fill a line of the cache.
const BAND: usize = 16;

/// A matrix in the order of its transpose, and the rows that wait for their band to be full.
pub struct Transposed<B: AimBackend> {
    /// `[d_input, d_output]`
    values: Vec<f32>,
    d_output: usize,
    d_input: usize,
    /// Up to [`BAND`] rows.
    band: Vec<f32>,
    /// The first row of the band.
    row: usize,
    device: B::Device,
}

impl<B: AimBackend> Transposed<B> {
    /// Puts the whole rows of the band in their places.
    fn place(&mut self) {
        let rows = self.band.len() / self.d_input;
        let columns = self.values.chunks_exact_mut(self.d_output);
        for (column, to) in columns.enumerate() {
            let to = to.iter_mut().skip(self.row);
            for (row, to) in self.band.chunks_exact(self.d_input).zip(to) {
                *to = row[column];
            }
        }
        self.row += rows;
        self.band.drain(..rows * self.d_input);
    }
}

impl<B: AimBackend> Rows<B> for Transposed<B> {
    fn new(d_output: usize, d_input: usize, device: &B::Device) -> Result<Self> {
        let too_large = || Error::new(ErrorKind::OutOfMemory, "does not fit in memory");
        let room = |rows: usize| -> Result<Vec<f32>> {
            let len = rows.checked_mul(d_input).ok_or_else(too_large)?;
            let mut values = Vec::new();
            values.try_reserve_exact(len).map_err(|_| too_large())?;
            Ok(values)
        };
        if d_output == 0 || d_input == 0 {
            return Err(Error::format("is a matrix without values"));
        }
        let mut values = room(d_output)?;
        values.resize(d_output * d_input, 0.0);
        Ok(Self {
            values,
            d_output,
            d_input,
            band: room(BAND)?,
            row: 0,
            device: device.clone(),
        })
    }

    fn push(&mut self, mut values: &[f32]) -> Result<()> {
        let came = self.row * self.d_input + self.band.len();
        if values.len() > self.values.len() - came {
            return Err(Error::format("holds more values than its shape"));
        }
        while !values.is_empty() {
            let lacking = BAND * self.d_input - self.band.len();
            let (next, rest) = values.split_at(lacking.min(values.len()));
            self.band.extend_from_slice(next);
            if next.len() == lacking {
                self.place();
            }
            values = rest;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Tensor<B, 2>> {
        self.place();
        if self.row != self.d_output || !self.band.is_empty() {
            return Err(Error::format(format!(
                "ends inside row {}: download the file again",
                self.row
            )));
        }
        let data = TensorData::new(self.values, [self.d_input, self.d_output]);
        Ok(Tensor::from_data(data, &self.device))
    }
}

#[cfg(test)]
mod tests {
    use super::super::cpu;
    use super::*;

    #[test]
    fn a_matrix_is_transposed_however_it_is_cut() {
        let (d_output, d_input) = (2 * BAND + 3, 7);
        let values: Vec<f32> = (0..d_output * d_input).map(|i| i as f32).collect();
        for size in [1, 5, d_input, BAND * d_input, 100, values.len()] {
            let mut rows = Transposed::<cpu::Cpu>::new(d_output, d_input, &cpu::device()).unwrap();
            for piece in values.chunks(size) {
                rows.push(piece).unwrap();
            }
            let data = rows.finish().unwrap().into_data();
            let transposed = data.as_slice::<f32>().unwrap();
            for (i, value) in values.iter().enumerate() {
                let (row, column) = (i / d_input, i % d_input);
                assert_eq!(transposed[column * d_output + row], *value, "{size}");
            }
        }
    }

    #[test]
    fn too_many_or_too_few_values_are_told() {
        for wrong in [0, 5, 13] {
            let mut rows = Transposed::<cpu::Cpu>::new(3, 4, &cpu::device()).unwrap();
            let pushed = rows.push(&vec![0.0; wrong]);
            let error = pushed.and_then(|()| rows.finish()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Format, "{wrong}");
        }
    }
}
