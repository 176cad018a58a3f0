//! The tensors of one record of a file, to what takes them, as the record's bytes come.

use crate::error::{At as _, Error, Result};
use crate::weights::checkpoint::contents::Contents;
use crate::weights::checkpoint::place;
use crate::weights::checkpoint::record::RecordReader;
use crate::weights::checkpoint::view::ViewReader;
use crate::weights::inventory::Located;

use super::sink::Sink;

/// What went wrong with a record.
#[derive(Debug)]
pub enum Fault {
    /// Its bytes are damaged: other ones may serve.
    Record(Error),
    /// Its tensors could not be taken.
    Sink(Error),
}

impl Fault {
    /// Why, whatever it was.
    pub fn into_error(self) -> Error {
        match self {
            Self::Record(error) | Self::Sink(error) => error,
        }
    }
}

/// Tensors of one record, by where they begin in it, none of which overlap.
pub struct Feed<'a> {
    contents: &'a Contents,
    /// The file, for messages.
    file: &'a str,
    /// Those that have not begun.
    waiting: &'a [Located],
    reader: Option<RecordReader<'a>>,
    current: Option<(&'a Located, ViewReader<'a>)>,
    /// What the sink refused of a record that may turn out to be damaged.
    refused: Option<Error>,
    has_checksum: bool,
}

impl<'a> Feed<'a> {
    /// Nothing came yet of the record that `tensors` lie in.
    pub fn new(contents: &'a Contents, file: &'a str, tensors: &'a [Located]) -> Self {
        let record = tensors
            .first()
            .and_then(|tensor| contents.record_of(tensor.index));
        Self {
            contents,
            file,
            waiting: tensors,
            reader: record.map(RecordReader::new),
            current: None,
            refused: None,
            has_checksum: record.is_some_and(|record| record.has_checksum()),
        }
    }

    /// Takes the next bytes of the record's range of the file.
    ///
    /// # Errors
    /// [`Fault::Record`] if they can't be its bytes; [`Fault::Sink`] for what the sink returns, here if
    /// nothing else says whether the bytes are right, else in [`finish`](Self::finish).
    pub fn push(&mut self, bytes: &[u8], sink: &mut dyn Sink) -> Result<(), Fault> {
        let Some(mut reader) = self.reader.take() else {
            return Ok(());
        };
        let pushed = reader.push(bytes, &mut |at, data| {
            if self.refused.is_none()
                && let Err(error) = self.hand_on(at, data, sink)
            {
                self.refused = Some(error);
            }
            Ok(())
        });
        self.reader = Some(reader);
        pushed.at(self.place()).map_err(Fault::Record)?;
        match self.refused.take() {
            Some(error) if !self.has_checksum => Err(Fault::Sink(error)),
            refused => {
                self.refused = refused;
                Ok(())
            }
        }
    }

    /// The tensor that is due, for messages.
    fn place(&self) -> String {
        let current = self.current.as_ref().map(|(located, _)| *located);
        match current.or_else(|| self.waiting.first()) {
            Some(located) => place(self.file, &located.spec.name),
            None => self.file.to_owned(),
        }
    }

    /// Data that begin at byte `at` of the record's.
    fn hand_on(&mut self, at: u64, data: &[u8], sink: &mut dyn Sink) -> Result<()> {
        let after = at.saturating_add(data.len() as u64);
        loop {
            if self.current.is_none() {
                let next = self.waiting.first();
                let begin = next.and_then(|next| self.contents.view(next.index));
                if begin.is_none_or(|view| view.begin >= after) {
                    return Ok(());
                }
                self.begin(sink)?;
            }
            let Some((located, reader)) = &mut self.current else {
                return Ok(());
            };
            let place = place(self.file, &located.spec.name);
            reader.push(at, data, &mut |piece| sink.push(piece).at(&place))?;
            let end = self.contents.view(located.index).map(|view| view.end);
            // The last one ends when the record is known to be right.
            if self.waiting.is_empty() || end.is_none_or(|end| end > after) {
                return Ok(());
            }
            self.end(sink)?;
        }
    }

    fn begin(&mut self, sink: &mut dyn Sink) -> Result<()> {
        let Some((located, waiting)) = self.waiting.split_first() else {
            return Ok(());
        };
        self.waiting = waiting;
        let (Some(info), Some(view)) = (
            self.contents.tensors().get(located.index),
            self.contents.view(located.index),
        ) else {
            return Ok(());
        };
        sink.begin(located.clone(), info).at(self.file)?;
        let reader = ViewReader::new(view).at(place(self.file, &located.spec.name))?;
        self.current = Some((located, reader));
        Ok(())
    }

    fn end(&mut self, sink: &mut dyn Sink) -> Result<()> {
        let Some((located, reader)) = self.current.take() else {
            return Ok(());
        };
        let place = place(self.file, &located.spec.name);
        reader
            .finish(&mut |piece| sink.push(piece))
            .and_then(|()| sink.end())
            .at(place)
    }

    /// The record ends here.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(mut self, sink: &mut dyn Sink) -> Result<(), Fault> {
        if let Some(reader) = self.reader.take() {
            let place = self.place();
            reader.finish().at(place).map_err(Fault::Record)?;
        }
        if let Some(error) = self.refused.take() {
            return Err(Fault::Sink(error));
        }
        self.end(sink).map_err(Fault::Sink)?;
        // What is left has no bytes.
        while !self.waiting.is_empty() {
            self.begin(sink).map_err(Fault::Sink)?;
            self.end(sink).map_err(Fault::Sink)?;
        }
        Ok(())
    }
}
