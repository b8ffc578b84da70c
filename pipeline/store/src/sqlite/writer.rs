//! The one task that writes: it drains what waits into one transaction, commits, then answers.

use std::{collections::HashMap, sync::Arc, time::Duration};

use sealift_run::{RunId, RunState};
use sqlx::{Connection, SqliteConnection};
use tokio::sync::{broadcast, mpsc, oneshot};

use super::{
    StoreOptions,
    dispatch::Dispatch,
    request::{Abandoned, Ask, Request},
    resume,
    transaction::Transaction,
};
use crate::{Notice, StateFolder, StoreError};

/// Most requests in one transaction: enough to share a disk sync, few enough to answer soon.
const BATCH: usize = 256;

/// How long the timer rests after a failed transaction, so that a full disk is no busy loop.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);

/// Longest sleep of the timer; it only bounds the arithmetic.
const LONGEST_SLEEP: Duration = Duration::from_hours(24);

/// A run that is worked on.
pub(crate) struct Active {
    pub(crate) state: RunState,
    /// The sequence number of its last event.
    pub(crate) seq: i64,
}

/// What the writer knows besides the database; all of it can be read back from there.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) active: HashMap<RunId, Active>,
    pub(crate) dispatch: Dispatch,
}

pub(crate) struct Writer {
    database: SqliteConnection,
    folder: Arc<StateFolder>,
    options: StoreOptions,
    notices: broadcast::Sender<Notice>,
    known: Known,
    abandoned: Vec<Abandoned>,
    /// The shortest sleep of the timer.
    pause: Duration,
}

/// What the writer goes on with.
struct Batch {
    asks: Vec<Ask>,
    close: Option<oneshot::Sender<()>>,
    /// Whether nobody can ask any more.
    orphaned: bool,
}

impl Writer {
    pub(crate) fn new(
        database: SqliteConnection,
        folder: Arc<StateFolder>,
        options: StoreOptions,
        notices: broadcast::Sender<Notice>,
    ) -> Self {
        let known = Known::default();
        let (abandoned, pause) = (Vec::new(), Duration::ZERO);
        Self {
            database,
            folder,
            options,
            notices,
            known,
            abandoned,
            pause,
        }
    }

    pub(crate) async fn run(mut self, mut inbox: mpsc::Receiver<Request>) {
        loop {
            let batch = self.next_batch(&mut inbox).await;
            if let Err(error) = self.write(batch.asks).await {
                tracing::error!(error = ?error, "the store ends: its database cannot be read back");
                return;
            }
            if batch.orphaned || batch.close.is_some() {
                let Self {
                    database, folder, ..
                } = self;
                drop(database.close().await);
                // Before the answer, so that whoever gets it can open the folder anew.
                drop(folder);
                // Whoever asked for the end may have gone.
                batch.close.map(|done| done.send(()));
                return;
            }
        }
    }

    /// Waits for a request or the next due time, then takes what else is there.
    async fn next_batch(&self, inbox: &mut mpsc::Receiver<Request>) -> Batch {
        let mut batch = Batch {
            asks: Vec::new(),
            close: None,
            orphaned: false,
        };
        if self.abandoned.is_empty() {
            tokio::select! {
                request = inbox.recv() => batch.take(request),
                () = self.due() => {}
            }
        }
        // Whoever is ready to ask now shares this transaction's sync.
        let mut yielded = false;
        while batch.close.is_none() && !batch.orphaned && batch.asks.len() < BATCH {
            match inbox.try_recv() {
                Ok(request) => batch.take(Some(request)),
                Err(_) if yielded => break,
                Err(_) => {
                    yielded = true;
                    tokio::task::yield_now().await;
                }
            }
        }
        batch
    }

    async fn due(&self) {
        match self.known.dispatch.next_due_ms() {
            Some(due_ms) => {
                let wait = due_ms.saturating_sub((self.options.now_ms)());
                let wait = Duration::from_millis(wait)
                    .max(self.pause)
                    .min(LONGEST_SLEEP);
                tokio::time::sleep(wait).await;
            }
            None => std::future::pending().await,
        }
    }

    /// One transaction.
    ///
    /// # Errors
    /// Only if what the writer knows could not be read back after a failed transaction.
    async fn write(&mut self, asks: Vec<Ask>) -> Result<(), StoreError> {
        let abandoned = std::mem::take(&mut self.abandoned);
        let failed = StoreError::database("begin a transaction");
        let mut database = match self.database.begin_with("BEGIN IMMEDIATE").await {
            Ok(transaction) => transaction,
            Err(error) => {
                // Nothing has changed; abandoned claims end with their leases.
                let error = failed(error);
                for ask in asks {
                    ask.refuse(error.clone());
                }
                self.pause = FAILURE_PAUSE;
                return Ok(());
            }
        };
        let mut transaction = Transaction {
            database: &mut database,
            known: &mut self.known,
            folder: &self.folder,
            now_ms: (self.options.now_ms)(),
            lease_ms: self.options.lease_ms,
            staged: Vec::new(),
            notices: Vec::new(),
        };
        let worked = transaction.work(asks, abandoned).await;
        let Transaction {
            staged, notices, ..
        } = transaction;
        let committed = match worked {
            Ok(()) => database
                .commit()
                .await
                .map_err(StoreError::database("commit")),
            Err(error) => {
                drop(database.rollback().await);
                Err(error)
            }
        };
        self.pause = if committed.is_ok() {
            Duration::ZERO
        } else {
            FAILURE_PAUSE
        };
        if let Err(error) = &committed {
            tracing::error!(error = ?error, "a transaction of the store failed");
            self.read_back().await?;
        } else {
            for notice in notices {
                // An error means that nobody watches.
                drop(self.notices.send(notice));
            }
        }
        let delivered = staged
            .into_iter()
            .filter_map(|answer| answer.deliver(committed.clone()));
        self.abandoned = delivered.collect();
        Ok(())
    }

    /// Makes what the writer knows what the database says, after a transaction was lost.
    async fn read_back(&mut self) -> Result<(), StoreError> {
        let runs: Vec<RunId> = self.known.active.keys().cloned().collect();
        for run in runs {
            self.known.active.remove(&run);
            self.known.dispatch.forget(&run);
            match resume::load(&mut self.database, &mut self.known, &run).await {
                Err(StoreError::UnknownRun(_)) => {}
                loaded => loaded?,
            }
        }
        Ok(())
    }
}

impl Batch {
    fn take(&mut self, request: Option<Request>) {
        match request {
            Some(Request::Ask(ask)) => self.asks.push(ask),
            Some(Request::Close(done)) => self.close = Some(done),
            None => self.orphaned = true,
        }
    }
}
