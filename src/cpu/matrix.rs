//! The product of rows with a matrix, whatever it is kept in.

use super::epilogue::Epilogue;
use super::float::FloatMatrix;
use super::gelu::gelu_of;
use crate::error::Result;
use crate::memory;
use crate::quant::int8::{Activations, IntMatrix, Write};

/// A matrix `[d_output, d_input]`, laid out once as its product reads it.
#[derive(Debug)]
pub enum Matrix {
    /// In f32.
    Float(FloatMatrix),
    /// In codes of 4 or 8 bits.
    Int(IntMatrix),
}

/// Rows to multiply with a matrix, in the numbers that it takes: f32, or codes of 8 bits. A buffer to be
/// used again.
#[derive(Debug, Default)]
pub struct Rows {
    floats: Vec<f32>,
    codes: Activations,
}

impl Matrix {
    /// `[d_output, d_input]`
    pub const fn dims(&self) -> [usize; 2] {
        match self {
            Self::Float(matrix) => matrix.dims(),
            Self::Int(matrix) => [matrix.d_output(), matrix.d_input()],
        }
    }

    /// `y = epilogue(x Wᵀ)`
    ///
    /// # Shapes
    /// - `x`: `[n, d_input]`, made for this matrix or one of its kind and width
    /// - `y`: `[n, d_output]`, overwritten but for [`Epilogue::Add`]
    ///
    /// # Errors
    /// [`ErrorKind::Option`](crate::ErrorKind::Option) if the rows were made for another matrix.
    pub fn product(&self, x: &Rows, y: &mut [f32], epilogue: Epilogue<'_>) -> Result<()> {
        match self {
            Self::Float(matrix) => {
                matrix.product(&x.floats, y, epilogue);
                Ok(())
            }
            Self::Int(matrix) => {
                let write = match epilogue {
                    Epilogue::Add => Write::Add,
                    _ => Write::Over,
                };
                let outputs = matrix.d_output();
                matrix.product(x.codes.rows(), 0..outputs, y, outputs, write)?;
                epilogue.apply_to_rows(y, outputs);
                Ok(())
            }
        }
    }
}

impl Rows {
    /// The memory that it holds.
    pub const fn bytes(&self) -> u64 {
        memory::bytes(&self.floats) + self.codes.bytes()
    }

    /// Makes `n` rows for a matrix: `write` fills each, by its number.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory) if there is no room for them.
    pub fn make(
        &mut self,
        n: usize,
        matrix: &Matrix,
        mut write: impl FnMut(usize, &mut [f32]),
    ) -> Result<()> {
        let [_, d_input] = matrix.dims();
        match matrix {
            Matrix::Float(_) => {
                memory::resize(&mut self.floats, n.checked_mul(d_input), "activations")?;
                for (row, values) in self.floats.chunks_exact_mut(d_input).enumerate() {
                    write(row, values);
                }
                Ok(())
            }
            Matrix::Int(matrix) => {
                self.floats.resize(d_input, 0.0);
                self.codes.prepare(n, matrix)?;
                let mut codes = self.codes.rows_mut();
                for row in 0..n {
                    write(row, &mut self.floats);
                    codes.quantize(row, &self.floats)?;
                }
                Ok(())
            }
        }
    }

    /// Makes `n` rows for `matrix` of the GELU of a product. The floats of a product whose rows become codes
    /// go by way of `between`.
    ///
    /// # Errors
    /// As [`make`](Self::make) and [`Matrix::product`].
    pub fn make_gelu(
        &mut self,
        n: usize,
        matrix: &Matrix,
        (product, x): (&Matrix, &Self),
        between: &mut Vec<f32>,
    ) -> Result<()> {
        let [_, d_input] = matrix.dims();
        match matrix {
            Matrix::Float(_) => {
                memory::resize(&mut self.floats, n.checked_mul(d_input), "activations")?;
                product.product(x, &mut self.floats, Epilogue::Gelu)
            }
            Matrix::Int(matrix) => {
                memory::resize(between, n.checked_mul(d_input), "activations")?;
                product.product(x, between, Epilogue::None)?;
                self.codes.prepare(n, matrix)?;
                let mut codes = self.codes.rows_mut();
                for (row, values) in between.chunks_exact_mut(d_input).enumerate() {
                    gelu_of(values);
                    codes.quantize(row, values)?;
                }
                Ok(())
            }
        }
    }
}
