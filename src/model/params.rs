//! Tensors by checkpoint name, on their device, on their way into the modules.

use std::collections::HashMap;

use burn::tensor::Tensor;

use super::linear::Linear;
use crate::device::backend::AimBackend;
use crate::error::{Error, Result};

/// A tensor that has reached its device.
enum Param<B: AimBackend> {
    /// Any tensor but the weight of a linear layer, flattened, with its shape.
    Tensor(Tensor<B, 1>, Vec<usize>),
    /// The weight of a linear layer.
    Linear(Linear<B>),
}

/// The tensors of a model, filled by a loader and emptied by the modules' constructors.
pub struct Params<B: AimBackend> {
    params: HashMap<String, Param<B>>,
}

impl<B: AimBackend> Default for Params<B> {
    fn default() -> Self {
        Self {
            params: HashMap::new(),
        }
    }
}

impl<B: AimBackend> Params<B> {
    /// Adds a tensor of any rank, flattened in row-major order.
    pub fn insert(&mut self, name: &str, flat: Tensor<B, 1>, shape: &[usize]) {
        let param = Param::Tensor(flat, shape.to_vec());
        self.params.insert(name.to_owned(), param);
    }

    /// Adds a linear layer by the name of its weight.
    pub fn insert_linear(&mut self, name: &str, linear: Linear<B>) {
        self.params.insert(name.to_owned(), Param::Linear(linear));
    }

    /// The tensors whose names start with `prefix.`, seen without it.
    pub fn scope(&mut self, prefix: impl Into<String>) -> Scope<'_, B> {
        Scope {
            prefix: prefix.into(),
            params: self,
        }
    }
}

/// A module's part of the [`Params`].
pub struct Scope<'a, B: AimBackend> {
    prefix: String,
    params: &'a mut Params<B>,
}

impl<B: AimBackend> Scope<'_, B> {
    /// The part of a module inside this one.
    pub fn scope(&mut self, name: &str) -> Scope<'_, B> {
        Scope {
            prefix: format!("{}.{name}", self.prefix),
            params: self.params,
        }
    }

    /// Takes out the tensor `name` of the given shape.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if it is not there,
    /// [`ErrorKind::Format`](crate::ErrorKind::Format) if its shape differs.
    pub fn tensor<const D: usize>(
        &mut self,
        name: &str,
        shape: [usize; D],
    ) -> Result<Tensor<B, D>> {
        let name = format!("{}.{name}", self.prefix);
        match self.params.params.remove(&name) {
            Some(Param::Tensor(flat, own)) if own == shape => Ok(flat.reshape(shape)),
            Some(Param::Tensor(_, own)) => Err(wrong_shape(&name, &own, &shape)),
            Some(Param::Linear(_)) => Err(Error::format(format!(
                "tensor {name} was loaded as the weight of a linear layer"
            ))),
            None => Err(missing(&name)),
        }
    }

    /// Takes out the linear layer `name` with `name.weight` of shape `[d_output, d_input]`.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor).
    pub fn linear(&mut self, name: &str, d_input: usize, d_output: usize) -> Result<Linear<B>> {
        let name = format!("{}.{name}.weight", self.prefix);
        match self.params.params.remove(&name) {
            Some(Param::Linear(linear)) if linear.dims() == [d_input, d_output] => Ok(linear),
            Some(Param::Linear(linear)) => {
                let [own_input, own_output] = linear.dims();
                Err(wrong_shape(
                    &name,
                    &[own_output, own_input],
                    &[d_output, d_input],
                ))
            }
            Some(Param::Tensor(..)) => Err(Error::format(format!(
                "tensor {name} was not loaded as the weight of a linear layer"
            ))),
            None => Err(missing(&name)),
        }
    }
}

fn missing(name: &str) -> Error {
    Error::not_found(format!("tensor {name} is missing"))
}

fn wrong_shape(name: &str, own: &[usize], wanted: &[usize]) -> Error {
    Error::format(format!(
        "tensor {name} has shape {own:?}, but the model needs {wanted:?}"
    ))
}
