//! Records that are compressed, which `torch.save` never does but other writers may.

use std::io::{self, Read};

use crc32fast::Hasher;
use miniz_oxide::inflate::stream::{InflateState, inflate as step};
use miniz_oxide::{DataFormat, MZFlush, MZStatus};

use super::PIECE;
use super::record::{Frame, Record, cut};
use crate::error::{Error, ErrorKind, Result, printable};

/// Inflates a record from where its data begin, and hands on the place of each piece among the data,
/// and the piece.
///
/// # Errors
/// [`ErrorKind::Integrity`] if the data are broken, of another length than the record's, or have
/// another checksum; what `sink` returns.
pub(super) fn inflate(
    record: &Record,
    packed: impl Read,
    sink: &mut dyn FnMut(u64, &[u8]) -> Result<()>,
) -> Result<()> {
    let Frame::Zip { packed: len, .. } = record.frame else {
        return Ok(());
    };
    let mut packed = packed.take(len);
    let mut state = InflateState::new_boxed(DataFormat::Raw);
    let mut input = vec![0; usize::try_from(len).unwrap_or(PIECE).clamp(1, 1 << 16)];
    let mut piece = vec![
        0;
        usize::try_from(record.size)
            .unwrap_or(PIECE)
            .clamp(1, PIECE)
    ];
    let mut hasher = Hasher::new();
    let mut waiting = 0..0;
    let mut at = 0_u64;
    loop {
        if waiting.is_empty() {
            let read = match packed.read(&mut input) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(|error| unreadable(&error.to_string()))?,
            };
            waiting = 0..read;
        }
        let is_last = waiting.is_empty();
        let result = step(
            &mut state,
            &input[waiting.clone()],
            &mut piece,
            MZFlush::None,
        );
        waiting.start += result.bytes_consumed;
        let data = &piece[..result.bytes_written];
        let next = at.saturating_add(data.len() as u64);
        if next > record.size {
            return Err(cut(next));
        }
        if !data.is_empty() {
            hasher.update(data);
            sink(at, data)?;
        }
        at = next;
        match result.status {
            Ok(MZStatus::StreamEnd) => break,
            Ok(_) => {}
            Err(_) if !data.is_empty() => {}
            Err(error) => return Err(unreadable(&format!("{error:?}"))),
        }
        if is_last && data.is_empty() {
            return Err(cut(at));
        }
    }
    if at != record.size {
        return Err(cut(at));
    }
    record.check(hasher)
}

fn unreadable(why: &str) -> Error {
    Error::new(
        ErrorKind::Integrity,
        printable(&format!(
            "its record can't be read ({why}): download the file again"
        )),
    )
}
