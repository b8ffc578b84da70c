//! Exit codes: public API, listed in README.md ("Exit codes").

/// What the process ends with; scripts may rely on the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ExitCode {
    /// Everything that was asked for happened.
    Success = 0,
    /// A defect of Sealift or of the machine; the message says what was being done.
    Unexpected = 1,
    /// The command line does not parse (clap's own code).
    Usage = 2,
    /// The definition or an input of it has mistakes; nothing was run.
    Definition = 3,
    /// The run ended without success; what it left was taken back.
    RunFailed = 4,
    /// The run was stopped and can be resumed.
    RunStopped = 5,
    /// A file that the command reads is missing, truncated or malformed.
    Input = 6,
    /// Something did not prove what it must: a receipt, a signature, evidence.
    Unverified = 7,
    /// The state folder, a port or a sibling binary is not usable.
    Environment = 8,
    /// A comparison ended below its threshold.
    Disagreement = 9,
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}
