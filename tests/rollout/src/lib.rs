//! Whole rollouts with the binaries of this build, in `tests/rollout`.
