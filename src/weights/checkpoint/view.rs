//! What part of a record's data a tensor is, and how its elements are put in order as they arrive.

use super::PIECE;
use crate::error::Result;
use crate::memory;

/// Where a tensor lies in the data of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::weights) struct View {
    /// The record, by its place in the list of them.
    pub(in crate::weights) record: usize,
    /// First byte.
    pub(in crate::weights) begin: u64,
    /// After the last byte.
    pub(in crate::weights) end: u64,
    /// How its elements lie there, if not row-major without gaps.
    pub(in crate::weights) strides: Option<Strides>,
}

/// The elements of a tensor that don't lie row-major without gaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::weights) struct Strides {
    /// Bytes of an element.
    pub(in crate::weights) element: usize,
    /// Sizes, none of them 0, and strides in elements, outermost first; one of size 1 has stride 0.
    pub(in crate::weights) dims: Vec<(usize, u64)>,
}

/// Takes the data of a record as they come and hands on those of a tensor, row-major.
pub(in crate::weights) struct ViewReader<'a> {
    view: &'a View,
    /// What came of a tensor whose elements have to be put in order.
    window: Vec<u8>,
    /// Bytes of the tensor that came.
    came: u64,
}

impl<'a> ViewReader<'a> {
    /// Makes room, if the tensor's elements have to be put in order.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfMemory`] if there is none.
    pub(in crate::weights) fn new(view: &'a View) -> Result<Self> {
        let window = match view.strides {
            Some(_) => memory::with_capacity(usize::try_from(view.end - view.begin).ok())?,
            None => Vec::new(),
        };
        Ok(Self {
            view,
            window,
            came: 0,
        })
    }

    /// Takes the data that begin at byte `at` of the record's. They come in order.
    ///
    /// # Errors
    /// What `sink` returns.
    pub(in crate::weights) fn push(
        &mut self,
        at: u64,
        data: &[u8],
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let after = at.saturating_add(data.len() as u64);
        let begin = self.view.begin.clamp(at, after) - at;
        let end = self.view.end.clamp(at, after) - at;
        // Both are inside `data`.
        let own = &data[begin as usize..end as usize];
        self.came = self.came.saturating_add(own.len() as u64);
        if self.view.strides.is_some() {
            self.window.extend_from_slice(own);
        } else {
            for piece in own.chunks(PIECE) {
                sink(piece)?;
            }
        }
        Ok(())
    }

    /// Hands on what had to be put in order.
    ///
    /// # Errors
    /// [`ErrorKind::Integrity`] if bytes are missing; what `sink` returns.
    pub(in crate::weights) fn finish(
        self,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        if self.came != self.view.end - self.view.begin {
            return Err(super::record::cut(self.came));
        }
        match &self.view.strides {
            None => Ok(()),
            Some(strides) => strides.gather(&self.window, sink),
        }
    }
}

impl Strides {
    /// Copies elements out of `window`, whose first is the tensor's first, into row-major order.
    fn gather(&self, window: &[u8], sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let Self { element, dims } = self;
        let count = dims
            .iter()
            .fold(1_u64, |count, &(d, _)| count.saturating_mul(d as u64));
        let mut piece = Vec::with_capacity(PIECE.min(window.len().max(*element)));
        let mut position = vec![0_usize; dims.len()];
        // In elements. It ends below the window's length, and a step adds one stride at most,
        // which is below it too: no overflow.
        let mut at = 0_u64;
        for _ in 0..count {
            let bytes = usize::try_from(at)
                .ok()
                .and_then(|at| at.checked_mul(*element))
                .and_then(|at| window.get(at..at.checked_add(*element)?))
                .ok_or_else(|| super::record::cut(window.len() as u64))?;
            piece.extend_from_slice(bytes);
            if piece.len() + element > PIECE {
                sink(&piece)?;
                piece.clear();
            }
            for (i, &(d, stride)) in position.iter_mut().zip(dims).rev() {
                *i += 1;
                at += stride;
                if *i < d {
                    break;
                }
                at -= stride * d as u64;
                *i = 0;
            }
        }
        if piece.is_empty() {
            return Ok(());
        }
        sink(&piece)
    }
}
