//! One connected worker.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{Arc, PoisonError},
    task::Poll,
};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use sealift_run::{
    AttemptId, Worker,
    message::{Assignment, FromEngine, MAX_LOG_LINE_BYTES, MAX_SLOTS, ToEngine},
};
use sealift_store::{Hold, Kinds, Notice, RunStore, StoreError};
use tokio::sync::{broadcast::error::RecvError, watch};

use crate::{
    engine::{Phase, Shared},
    frames::{ConnectionError, Frames},
};

/// Serves a worker until it or the engine ends, then releases what it held.
pub(crate) async fn serve<S: RunStore>(
    frames: Frames,
    shared: Arc<Shared<S>>,
    worker: Worker,
    kinds: Kinds,
) -> Result<(), ConnectionError> {
    if let Err(error) = shared.store.register(&worker).await {
        tracing::error!(error = ?error, %worker, "a worker could not be registered");
        return Ok(());
    }
    note_worker(&shared, &worker, true);
    let session = Session {
        frames,
        shared: Arc::clone(&shared),
        worker: worker.clone(),
        kinds,
        claims: FuturesUnordered::new(),
        answers: FuturesUnordered::new(),
        held: BTreeMap::new(),
    };
    let served = session.run().await;
    note_worker(&shared, &worker, false);
    if let Err(error) = shared.store.leave(&worker).await {
        tracing::error!(error = ?error, %worker, "a worker's claims stay until their leases end");
    }
    served
}

fn note_worker<S>(shared: &Shared<S>, worker: &Worker, connected: bool) {
    let mut workers = shared
        .workers
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if connected {
        workers.insert(worker.clone());
    } else {
        workers.remove(worker);
    }
}

/// Waits for a phase after `told`.
async fn later_than(phase: &mut watch::Receiver<Phase>, told: Phase) -> Phase {
    phase
        .wait_for(|now| *now > told)
        .await
        .map_or(Phase::Ended, |now| *now)
}

struct Session<S> {
    frames: Frames,
    shared: Arc<Shared<S>>,
    worker: Worker,
    kinds: Kinds,
    /// One per free slot of the worker.
    claims: FuturesUnordered<BoxFuture<'static, Result<Assignment, StoreError>>>,
    /// What the worker asked for and the store has not answered yet.
    answers: FuturesUnordered<BoxFuture<'static, Answer>>,
    /// What the worker holds, and whether it knows that it should stop.
    held: BTreeMap<AttemptId, bool>,
}

/// What the store answered.
enum Answer {
    Logged(AttemptId, Result<(), StoreError>),
    Beaten(AttemptId, Result<Hold, StoreError>),
    Finished(AttemptId, Result<(), StoreError>),
}

impl<S: RunStore> Session<S> {
    async fn run(mut self) -> Result<(), ConnectionError> {
        let mut notices = self.shared.store.notices();
        let mut phase = self.shared.phase.subscribe();
        let mut told = Phase::Running;
        let registered = FromEngine::Registered {
            lease_ms: self.shared.store.lease_ms(),
        };
        self.frames.send(&registered).await?;
        loop {
            tokio::select! {
                message = self.frames.next() => match message? {
                    Some(message) => self.hear(message).await?,
                    None => return Ok(()),
                },
                Some(answer) = self.answers.next() => self.answer(answer).await?,
                Some(claimed) = self.claims.next() => self.assign(claimed).await?,
                notice = notices.recv() => match notice {
                    Ok(Notice::Interrupt { attempt, .. }) => self.interrupt(attempt).await?,
                    // The next heartbeat of each attempt says what was missed.
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return Ok(()),
                },
                now = later_than(&mut phase, told) => {
                    if now == Phase::Ended {
                        return Ok(());
                    }
                    told = now;
                    self.claims.clear();
                    self.frames.send(&FromEngine::Drain).await?;
                },
            }
        }
    }

    async fn hear(&mut self, message: ToEngine) -> Result<(), ConnectionError> {
        let (store, worker) = (self.shared.store.clone(), self.worker.clone());
        match message {
            ToEngine::Claim { slots } => {
                let free = MAX_SLOTS.saturating_sub((self.claims.len() + self.held.len()) as u32);
                let draining = *self.shared.phase.borrow() != Phase::Running;
                for _ in 0..if draining { 0 } else { slots.min(free) } {
                    let (store, worker, kinds) =
                        (store.clone(), worker.clone(), Arc::clone(&self.kinds));
                    let claim = async move { store.claim(&worker, &kinds).await };
                    self.claims.push(Box::pin(claim));
                }
                Ok(())
            }
            ToEngine::Heartbeat { attempt, progress } => {
                self.ask(async move {
                    let hold = store.heartbeat(&worker, &attempt, progress).await;
                    Answer::Beaten(attempt, hold)
                })
                .await
            }
            ToEngine::Log { attempt, mut line } => {
                line.truncate(line.floor_char_boundary(MAX_LOG_LINE_BYTES));
                self.ask(async move {
                    let logged = store.log(&worker, &attempt, line).await;
                    Answer::Logged(attempt, logged)
                })
                .await
            }
            ToEngine::Finish { attempt, outcome } => {
                self.ask(async move {
                    let finished = store.finish(&worker, &attempt, outcome).await;
                    Answer::Finished(attempt, finished)
                })
                .await
            }
            ToEngine::Register { .. }
            | ToEngine::Status
            | ToEngine::Follow { .. }
            | ToEngine::Stop { .. } => {
                let reason = "a worker registers once and then works".to_owned();
                self.frames.send(&FromEngine::Refused { reason }).await
            }
        }
    }

    /// Hands a request to the store in the order in which the worker made it.
    ///
    /// The first poll puts it into the store's queue; its answer may come out of order.
    async fn ask(
        &mut self,
        request: impl Future<Output = Answer> + Send + 'static,
    ) -> Result<(), ConnectionError> {
        let mut request: BoxFuture<'static, Answer> = Box::pin(request);
        let first = std::future::poll_fn(|cx| Poll::Ready(Pin::as_mut(&mut request).poll(cx)));
        match first.await {
            Poll::Ready(answer) => self.answer(answer).await,
            Poll::Pending => {
                self.answers.push(request);
                Ok(())
            }
        }
    }

    async fn answer(&mut self, answer: Answer) -> Result<(), ConnectionError> {
        match answer {
            Answer::Logged(_, Ok(())) | Answer::Beaten(_, Ok(Hold::Held)) => Ok(()),
            Answer::Beaten(attempt, Ok(Hold::Interrupted)) => self.interrupt(attempt).await,
            Answer::Finished(attempt, Ok(())) => {
                self.held.remove(&attempt);
                self.frames.send(&FromEngine::Recorded { attempt }).await
            }
            Answer::Logged(attempt, Err(error))
            | Answer::Beaten(attempt, Err(error))
            | Answer::Finished(attempt, Err(error)) => {
                tracing::warn!(error = ?error, worker = %self.worker, "a worker's write was refused");
                self.held.remove(&attempt);
                self.frames.send(&FromEngine::Void { attempt }).await
            }
        }
    }

    async fn assign(
        &mut self,
        claimed: Result<Assignment, StoreError>,
    ) -> Result<(), ConnectionError> {
        match claimed {
            Ok(assignment) => {
                self.held.insert(assignment.attempt.clone(), false);
                self.frames
                    .send(&FromEngine::Assigned(Box::new(assignment)))
                    .await
            }
            // The slot is lost; a worker that was registered anew has another connection.
            Err(error) => {
                tracing::warn!(error = ?error, worker = %self.worker, "a claim was refused");
                Ok(())
            }
        }
    }

    async fn interrupt(&mut self, attempt: AttemptId) -> Result<(), ConnectionError> {
        match self.held.get_mut(&attempt) {
            Some(told) if !*told => {
                *told = true;
                self.frames.send(&FromEngine::Interrupt { attempt }).await
            }
            _ => Ok(()),
        }
    }
}
