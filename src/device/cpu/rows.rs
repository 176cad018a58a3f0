//! Matrices of floats on the CPU: laid out for their product as they arrive.

use std::sync::Arc;

use super::Cpu;
use crate::cpu::float::FloatMatrix;
use crate::cpu::matrix::Matrix;
use crate::device::backend::{AimBackend, Rows};
use crate::error::{Error, Result};

/// A matrix whose rows arrive.
pub struct FloatRows {
    matrix: FloatMatrix,
    /// The start of a row whose end has not arrived.
    partial: Vec<f32>,
    /// How many rows are in their places.
    row: usize,
}

impl FloatRows {
    fn row(&mut self, values: &[f32]) {
        self.matrix.set_row(self.row, values);
        self.row += 1;
    }
}

impl Rows<Cpu> for FloatRows {
    fn new(
        d_output: usize,
        d_input: usize,
        _: &<Cpu as burn::tensor::backend::BackendTypes>::Device,
    ) -> Result<Self> {
        Ok(Self {
            matrix: FloatMatrix::zeros(d_output, d_input)?,
            partial: Vec::new(),
            row: 0,
        })
    }

    fn push(&mut self, mut values: &[f32]) -> Result<()> {
        let [d_output, d_input] = self.matrix.dims();
        let lacking = (d_output - self.row) * d_input - self.partial.len();
        if values.len() > lacking {
            return Err(Error::format("holds more values than its shape"));
        }
        if !self.partial.is_empty() {
            let (end, rest) = values.split_at(values.len().min(d_input - self.partial.len()));
            self.partial.extend_from_slice(end);
            values = rest;
            if self.partial.len() < d_input {
                return Ok(());
            }
            let whole = std::mem::take(&mut self.partial);
            self.row(&whole);
        }
        let rows = values.chunks_exact(d_input);
        self.partial.extend_from_slice(rows.remainder());
        rows.for_each(|row| self.row(row));
        Ok(())
    }

    fn finish(self) -> Result<<Cpu as AimBackend>::Matrix> {
        let [d_output, _] = self.matrix.dims();
        if self.row != d_output {
            return Err(Error::format(format!(
                "ends inside row {}: download the file again",
                self.row
            )));
        }
        Ok(Arc::new(Matrix::Float(self.matrix)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::device;
    use super::*;
    use crate::cpu::epilogue::Epilogue;
    use crate::error::ErrorKind;

    #[test]
    fn a_matrix_is_the_same_however_it_is_cut() {
        let (d_output, d_input) = (35, 7);
        let values: Vec<f32> = (0..d_output * d_input).map(|i| i as f32).collect();
        for size in [1, 5, d_input, 100, values.len()] {
            let mut rows = FloatRows::new(d_output, d_input, &device()).unwrap();
            for piece in values.chunks(size) {
                rows.push(piece).unwrap();
            }
            let matrix = rows.finish().unwrap();
            let Matrix::Float(matrix) = &*matrix else {
                panic!("of floats");
            };
            for column in 0..d_input {
                let mut x = vec![0.0; d_input];
                x[column] = 1.0;
                let mut y = vec![0.0; d_output];
                matrix.product(&x, &mut y, Epilogue::None);
                for (row, y) in y.iter().enumerate() {
                    assert_eq!(*y, values[row * d_input + column], "{size}");
                }
            }
        }
    }

    #[test]
    fn too_many_or_too_few_values_are_refused() {
        for wrong in [0, 5, 13] {
            let mut rows = FloatRows::new(3, 4, &device()).unwrap();
            let pushed = rows.push(&vec![0.0; wrong]);
            let error = pushed.and_then(|()| rows.finish()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Format, "{wrong}");
        }
    }
}
