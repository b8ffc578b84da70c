//! Operations of a session, one module for each; the session itself; and what owners and
//! operators ask without one.

mod batch;
mod call;
mod certify;
mod commit;
mod fhe;
mod model_status;
mod run_receipt;
mod unwrap;

pub(crate) use call::{call, session};
pub(crate) use fhe::UnfinishedResults;
pub(crate) use model_status::model_status;
pub(crate) use run_receipt::run_receipt;
