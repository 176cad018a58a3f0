//! What a progress bar shows.

use std::cell::{Cell, RefCell};

/// The stage of a file or of the whole load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// A file is about to be read.
    Initiate,
    /// Its first bytes were asked for.
    Download,
    /// Some of its bytes arrived.
    Progress,
    /// Some bytes of all files arrived.
    ProgressTotal,
    /// The file is complete.
    Done,
    /// The model runs once before it is handed over.
    Warmup,
    /// The model is ready.
    Ready,
}

impl Status {
    /// The name in the package's progress events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Initiate => "initiate",
            Self::Download => "download",
            Self::Progress => "progress",
            Self::ProgressTotal => "progress_total",
            Self::Done => "done",
            Self::Warmup => "warmup",
            Self::Ready => "ready",
        }
    }
}

/// One step of a load. Counts are bytes the model needs; bytes from the cache count as loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The stage.
    pub status: Status,
    /// The file, if it is about one.
    pub file: Option<String>,
    /// Bytes that are here.
    pub loaded: u64,
    /// Bytes there will be.
    pub total: u64,
}

/// What a load will take of a file, before it is read: values of tensors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Those that are wanted.
    pub wanted: u64,
    /// All that it holds.
    pub all: u64,
}

impl Share {
    /// What is wanted of `bytes`.
    fn of(self, bytes: u64) -> u64 {
        scale(bytes, self.wanted, self.all)
            .unwrap_or(bytes)
            .min(bytes)
    }
}

/// `bytes * to / from`; `None` if `from` is 0.
fn scale(bytes: u64, to: u64, from: u64) -> Option<u64> {
    let scaled = (u128::from(bytes) * u128::from(to)).checked_div(u128::from(from))?;
    Some(u64::try_from(scaled).unwrap_or(u64::MAX))
}

/// Counts bytes and reports them.
///
/// What a file needs is known when its header is here. Until then its share of the model's values says
/// it, so that the total of all files stands from the start, to a few per cent.
pub struct Meter<'a> {
    report: &'a dyn Fn(Event),
    file: RefCell<String>,
    file_loaded: Cell<u64>,
    file_total: Cell<u64>,
    /// What `file_loaded` may be for now.
    file_limit: Cell<u64>,
    share: Cell<Share>,
    /// Bytes of the files before this one.
    before: Cell<u64>,
    /// Wanted values of this file and those before it, and of those after it.
    values: Cell<[u64; 2]>,
}

impl<'a> Meter<'a> {
    /// A meter that reports to `report`, for files that hold `values` wanted values.
    pub fn new(report: &'a dyn Fn(Event), values: u64) -> Self {
        Self {
            report,
            file: RefCell::default(),
            file_loaded: Cell::new(0),
            file_total: Cell::new(0),
            file_limit: Cell::new(0),
            share: Cell::default(),
            before: Cell::new(0),
            values: Cell::new([0, values]),
        }
    }

    /// A file is about to be read.
    pub fn start(&self, file: &str, share: Share) {
        self.before
            .set(self.before.get().saturating_add(self.file_loaded.get()));
        self.file.replace(file.to_owned());
        self.file_loaded.set(0);
        self.file_total.set(0);
        self.file_limit.set(0);
        self.share.set(share);
        let [seen, after] = self.values.get();
        self.values.set([
            seen.saturating_add(share.wanted),
            after.saturating_sub(share.wanted),
        ]);
        self.emit(Status::Initiate);
        self.emit(Status::Download);
    }

    /// Some bytes of the file's first chunk, of `chunk` bytes, arrived; the file has `len`.
    pub fn add_first(&self, bytes: u64, chunk: u64, len: u64) {
        self.file_total.set(self.share.get().of(len).max(chunk));
        self.file_limit.set(chunk);
        self.add(bytes);
    }

    /// The first chunk, of `first` bytes, is here; with it `total` bytes of the file will be read.
    pub fn expect(&self, first: u64, total: u64) {
        self.file_total.set(total);
        self.file_limit.set(total);
        self.file_loaded.set(first);
        self.add(0);
    }

    /// Some bytes of the file arrived. An attempt that is made again may bring bytes twice; they
    /// count up to what was expected.
    pub fn add(&self, bytes: u64) {
        let loaded = self.file_loaded.get().saturating_add(bytes);
        self.file_loaded.set(loaded.min(self.file_limit.get()));
        self.emit(Status::Progress);
        self.emit(Status::ProgressTotal);
    }

    /// The file is complete.
    pub fn done(&self) {
        self.file_loaded.set(self.file_total.get());
        self.emit(Status::Progress);
        self.emit(Status::ProgressTotal);
        self.emit(Status::Done);
    }

    /// Bytes of all files: known for this one and those before it, estimated by their values for those to come, and at
    /// least 1 while there are any.
    fn total(&self) -> u64 {
        let known = self.before.get().saturating_add(self.file_total.get());
        let [seen, after] = self.values.get();
        let to_come = match scale(known, after, seen) {
            Some(bytes) if after > 0 => bytes.max(1),
            _ => 0,
        };
        known.saturating_add(to_come)
    }

    fn emit(&self, status: Status) {
        let (file, loaded, total) = match status {
            Status::ProgressTotal => {
                let loaded = self.before.get().saturating_add(self.file_loaded.get());
                (None, loaded, self.total())
            }
            _ => (
                Some(self.file.borrow().clone()),
                self.file_loaded.get(),
                self.file_total.get(),
            ),
        };
        (self.report)(Event {
            status,
            file,
            loaded,
            total,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_stands_before_the_files_are_read() {
        let events = RefCell::new(Vec::new());
        let report = |event: Event| events.borrow_mut().push(event);
        let meter = Meter::new(&report, 100);
        for (wanted, all, total) in [(60, 60, 600), (40, 80, 410)] {
            meter.start("shard", Share { wanted, all });
            // The first chunk comes before the header.
            let len = total * all / wanted;
            meter.add_first(50, 100, len);
            meter.add_first(70, 100, len);
            meter.expect(100, total);
            meter.add(total - 100);
            meter.done();
        }
        let events = events.into_inner();
        let totals: Vec<_> = events
            .iter()
            .filter(|event| event.status == Status::ProgressTotal)
            .map(|event| (event.loaded, event.total))
            .collect();
        assert_eq!(totals[0], (50, 1000));
        assert!(totals.is_sorted_by_key(|(loaded, _)| *loaded), "{totals:?}");
        let (last, rest) = totals.split_last().unwrap();
        assert_eq!(*last, (1010, 1010));
        assert!(
            rest.iter()
                .all(|(loaded, total)| loaded < total || *loaded == 1010)
        );
    }
}
