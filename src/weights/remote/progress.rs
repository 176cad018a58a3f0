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

/// Counts bytes and reports them.
pub struct Meter<'a> {
    report: &'a dyn Fn(Event),
    file: RefCell<String>,
    file_loaded: Cell<u64>,
    file_total: Cell<u64>,
    /// Bytes of the files before this one.
    before: Cell<u64>,
    /// Bytes of all files, as far as is known.
    total: Cell<u64>,
}

impl<'a> Meter<'a> {
    /// A meter that reports to `report`. `total` counts all files, if that is known beforehand.
    pub fn new(report: &'a dyn Fn(Event), total: u64) -> Self {
        Self {
            report,
            file: RefCell::default(),
            file_loaded: Cell::new(0),
            file_total: Cell::new(0),
            before: Cell::new(0),
            total: Cell::new(total),
        }
    }

    /// A file is about to be read.
    pub fn start(&self, file: &str) {
        self.before
            .set(self.before.get().saturating_add(self.file_loaded.get()));
        self.file.replace(file.to_owned());
        self.file_loaded.set(0);
        self.file_total.set(0);
        self.emit(Status::Initiate);
        self.emit(Status::Download);
    }

    /// How many bytes of the file will be read.
    pub fn expect(&self, total: u64) {
        self.file_total.set(total);
        let known = self.before.get().saturating_add(total);
        self.total.set(self.total.get().max(known));
    }

    /// Some bytes of the file arrived. An attempt that is made again may bring bytes twice; they
    /// count up to what was expected.
    pub fn add(&self, bytes: u64) {
        let loaded = self.file_loaded.get().saturating_add(bytes);
        let expected = self.file_total.get();
        if expected == 0 {
            return;
        }
        self.file_loaded.set(loaded.min(expected));
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

    fn emit(&self, status: Status) {
        let (file, loaded, total) = match status {
            Status::ProgressTotal => {
                let loaded = self.before.get().saturating_add(self.file_loaded.get());
                (None, loaded, self.total.get())
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
