//! Which bytes of which file a model needs, and in which pieces they are fetched.

use std::ops::Range;

use crate::weights::checkpoint::contents::Contents;
use crate::weights::inventory::Located;
use crate::weights::shards::manifest::CHUNK;

/// A chunk of a file that holds bytes the model needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Its number in the file, from 0; it begins at `number * CHUNK`.
    pub number: u64,
    /// Its bytes in the file.
    pub range: Range<u64>,
}

impl Chunk {
    /// That of a number, of a file of `len` bytes.
    pub const fn of(number: u64, len: u64) -> Self {
        let start = number.saturating_mul(CHUNK);
        let end = start.saturating_add(CHUNK);
        Self {
            number,
            range: start..if end < len { end } else { len },
        }
    }
}

/// The chunks of a file of `len` bytes that hold any of the `needed` ranges, in the order of the
/// file.
pub fn chunks(needed: &[Range<u64>], len: u64) -> Vec<Chunk> {
    let mut numbers: Vec<u64> = needed
        .iter()
        .filter(|range| range.start < range.end)
        .flat_map(|range| range.start / CHUNK..=(range.end - 1) / CHUNK)
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
        .into_iter()
        .map(|number| Chunk::of(number, len))
        .collect()
}

/// How many bytes of a file of `len` bytes are fetched for the `needed` ranges: none if there are
/// none, else their chunks and those of `front`, which say what the file holds.
pub fn download(needed: &[Range<u64>], front: &[Range<u64>], len: u64) -> u64 {
    if needed.iter().all(Range::is_empty) {
        return 0;
    }
    // The first byte tells what kind of file it is.
    let first = 0..len.min(1);
    let all = [std::slice::from_ref(&first), needed, front].concat();
    chunks(&all, len)
        .iter()
        .map(|chunk| chunk.range.end - chunk.range.start)
        .fold(0, u64::saturating_add)
}

/// Tensors of one record that are read in one go: none of them overlap.
#[derive(Clone, Debug)]
pub struct Pass {
    /// The tensors, in the order in which they begin in their record.
    pub tensors: Vec<Located>,
    /// The range of the file that is read for them.
    pub range: Range<u64>,
}

/// In which order the `needed` tensors of a file are read: record by record as they lie in the file. A
/// record whose tensors overlap is read several times rather than kept in memory.
pub fn passes(contents: &Contents, needed: Vec<Located>) -> Vec<Pass> {
    // By record, then by where each begins there.
    let mut order: Vec<(u64, u64, usize)> = needed
        .iter()
        .enumerate()
        .filter_map(|(i, located)| {
            let record = contents.range(located.index)?;
            Some((record.start, contents.view(located.index)?.begin, i))
        })
        .collect();
    order.sort_unstable();
    let mut needed: Vec<Option<Located>> = needed.into_iter().map(Some).collect();
    let mut passes: Vec<Pass> = Vec::new();
    // Passes of the record at hand, by their places, and where each ends in the record.
    let mut open: Vec<(usize, u64)> = Vec::new();
    for (_, begin, i) in order {
        let Some(located) = needed[i].take() else {
            continue;
        };
        let (Some(range), Some(view)) =
            (contents.range(located.index), contents.view(located.index))
        else {
            continue;
        };
        let end = view.end;
        let same = |&(pass, _): &(usize, u64)| passes[pass].range == range;
        if !open.last().is_some_and(same) {
            open.clear();
        }
        match open.iter_mut().find(|(_, last)| *last <= begin) {
            Some((pass, last)) => {
                *last = end;
                passes[*pass].tensors.push(located);
            }
            None => {
                open.push((passes.len(), end));
                passes.push(Pass {
                    tensors: vec![located],
                    range,
                });
            }
        }
    }
    passes
}

/// The part of `bytes`, which lie at `place` in the file, that belongs to `wanted`.
pub fn part<'a>(bytes: &'a [u8], place: &Range<u64>, wanted: &Range<u64>) -> &'a [u8] {
    let start = wanted.start.clamp(place.start, place.end) - place.start;
    let end = wanted.end.clamp(place.start, place.end) - place.start;
    // Both fit: they are inside `bytes`, whose length is a usize.
    bytes.get(start as usize..end as usize).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_chunks_with_needed_bytes_are_fetched_and_each_once() {
        let len = 5 * CHUNK + 100;
        let needed = [
            CHUNK - 1..CHUNK + 1,
            10..20,
            3 * CHUNK..3 * CHUNK,
            5 * CHUNK + 1..len,
        ];
        let numbers: Vec<u64> = chunks(&needed, len).iter().map(|c| c.number).collect();
        assert_eq!(numbers, [0, 1, 5]);
        assert_eq!(chunks(&needed, len)[2].range, 5 * CHUNK..len);
        assert_eq!(download(&needed, &[], len), 2 * CHUNK + 100);
        assert_eq!(download(&needed[3..], &[], len), CHUNK + 100);
        assert_eq!(download(&needed[..1], &needed[3..], len), 2 * CHUNK + 100);
        assert_eq!(download(&[], &needed, len), 0);
    }

    #[test]
    fn parts_are_cut_to_both_ranges() {
        let bytes = [10, 11, 12, 13];
        let place = 10..14;
        for (wanted, expected) in [
            (0..5, &[][..]),
            (0..12, &[10, 11]),
            (11..13, &[11, 12]),
            (13..99, &[13]),
            (20..30, &[]),
        ] {
            assert_eq!(part(&bytes, &place, &wanted), expected);
        }
    }
}
