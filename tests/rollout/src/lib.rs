//! sealift-rollout-tests
