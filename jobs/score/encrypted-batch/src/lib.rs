//! Scoring batches that only their user and an attested guest can read.
//!
//! A batch is a document signed by the model user over age files (age-encryption.org/v1), one
//! per partition, each encrypted to the recipient that the key manager made for one grant. The
//! file key is unwrapped in two halves: the guest sends the header, the key manager opens it
//! under the grant ([`AdmittedBatch::unwrap_partition`]), the guest opens the payload
//! ([`SealedPartition::open`]). Results are age files to the recipients that the user named, and
//! count only together with their receipt ([`verify_run`], [`open_results`]), because age proves
//! no sender.

mod age_file;
mod age_header;
mod age_key;
mod age_payload;
mod batch;
mod by_head;
mod compare;
mod folder;
mod grant;
mod identifier;
mod output_policy;
mod partition;
mod receipt;
mod result_record;
mod results;
mod results_draft;
mod row;
mod seal;
mod transparency;
mod unwrap;
mod verify;

pub use age_file::{SealError as AgeSealError, open_age, seal_age};
pub use age_header::{AgeHeader, HeaderError, MAX_HEADER_BYTES, MAX_STANZAS};
pub use age_key::{AgeIdentity, AgeKeyError, AgeRecipient, FileKey};
pub use age_payload::{PayloadError, open_payload, seal_payload};
pub use batch::{Batch, BatchError, MAX_PARTITIONS, Partition, VerifiedBatch, guest_policy_sha256};
pub use by_head::ByHead;
pub use compare::{
    Agreement, CompareError, Comparison, Disagreement, Expected, compare, parse_expected,
};
pub use folder::{
    BATCH_FILE, FolderError, USER_KEY_FILE, partition_file, read_batch, read_partition,
};
pub use grant::{Budget, Grant, GrantAck, GrantAckError, GrantRecipient, VersionScope};
pub use identifier::{BatchId, GrantId, ParseIdError};
pub use output_policy::{MAX_DECIMALS, OutputPolicy};
pub use partition::{MAX_PARTITION_BYTES, OpenedPartition, PartitionError, SealedPartition};
pub use receipt::{Receipt, RowCounts, RunReceipt};
pub use result_record::{
    MAX_PAD, MIN_PAD, ModelOutput, Outcome, RowFault, RowResult, needed_pad, released_score,
};
pub use results::{
    OpenedResults, ResultLineError, ResultRow, ResultsError, ResultsHead, SealedResults,
    open_results, parse_results, partition_object, result_object, seal_results,
};
pub use results_draft::{MAX_DECRYPTED_BYTES, ResultsDraft};
pub use row::{
    InputRow, MAX_CUSTOM_ID_BYTES, MAX_FEATURES, MAX_LINE_BYTES, RowBody, RowError, RowProblem,
    RowShape, RowsError, parse_rows,
};
pub use seal::{BatchSealError, SealOptions, SealedBatch, seal_batch};
pub use sealift_evidence::Assurance;
pub use sealift_output_layer::{HeadLabels, Labels};
pub use transparency::receipts_root;
pub use unwrap::{AdmittedBatch, BatchRefusal, GuestFacts, UnwrapError, unwrap_header};
pub use verify::{
    CertifiedReceiptKey, ReceiptError, VerifiedReceipt, VerifiedRun, verify_receipt, verify_run,
};
