//! Pods of real child processes under the simulated AMD-SP, and of guests in this process.
#![expect(
    clippy::unwrap_used,
    reason = "a step of a test that fails is a test that fails"
)]

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
};

use sealift_job::{Job, JobContext, JobError};
use sealift_operator_fixtures::{GuestBackend, NOW, Played, Stage, World, context};
use sealift_provision::{
    Deprovision, DeprovisionInput, KeyManagerAddress, LocalBackend, Pod, PodError, Pods, Provision,
    ProvisionInput, ProvisionOutput, Published,
};
use sealift_signed_document::{Digest, VerifyingKey};

/// The example that plays the guest; `cargo test` and `cargo nextest run` build it.
fn guest_path() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("examples/played_guest");
    assert!(
        path.exists(),
        "`{}` is missing: cargo build --examples",
        path.display()
    );
    path
}

fn local(world: &World) -> Arc<Pods> {
    let backend = LocalBackend::new(world.firmware.clone(), guest_path());
    Arc::new(Pods::new(world.settings_alone(), Box::new(backend)))
}

fn in_process(world: &World) -> (Arc<Pods>, Arc<Played>) {
    let (backend, played) = GuestBackend::new(world);
    (
        Arc::new(Pods::new(world.settings_alone(), Box::new(backend))),
        played,
    )
}

async fn provision(
    pods: &Arc<Pods>,
    published: Published,
    context: &JobContext,
) -> Result<Pod, JobError> {
    let job = Provision::new(Arc::clone(pods));
    let ProvisionOutput { pod } = job.run(&ProvisionInput { published }, context).await?;
    Ok(pod)
}

async fn failed(world: &World, model: &str) -> JobError {
    provision(&local(world), world.published_as(model), &context(world))
        .await
        .unwrap_err()
}

fn cause(error: &JobError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[tokio::test]
async fn a_launched_guest_serves_with_the_init_data_of_the_template() {
    let world = World::new();
    let pods = local(&world);
    let pod = provision(&pods, world.published_as("serves"), &context(&world))
        .await
        .unwrap();
    let serving = pods.serving(&pod.name, NOW).await.unwrap();
    assert_eq!(serving.start, 1);
    let init_data = fs::read(
        world
            .path("pods")
            .join(pod.name.as_str())
            .join("init-data.toml"),
    );
    let trust = world.trust();
    let registered = pods.registered_slots(&pod, &trust);
    let template = trust.template().document();
    sealift_init_data::rerender_equals(template, &registered, &init_data.unwrap()).unwrap();
}

#[tokio::test]
async fn provisioning_twice_finds_the_same_pod_and_the_same_guest() {
    let world = World::new();
    let (pods, played) = in_process(&world);
    let first = provision(&pods, world.published(), &context(&world))
        .await
        .unwrap();
    let second = provision(&pods, world.published(), &context(&world))
        .await
        .unwrap();
    assert_eq!(first, second);
    assert_eq!(played.starts.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_spec_holds_what_the_pod_is_and_nothing_else() {
    let world = World::new();
    let (pods, _) = in_process(&world);
    let pod = provision(&pods, world.published(), &context(&world))
        .await
        .unwrap();
    let path = world.path("pods").join(pod.name.as_str()).join("spec.json");
    let spec: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    assert_eq!(spec, serde_json::to_value(&pod).unwrap());
}

#[tokio::test]
async fn a_guest_that_is_refused_its_keys_fails_for_good_with_its_reason() {
    let error = failed(&World::new(), "refused").await;
    assert!(error.remedy().is_some());
    assert!(
        cause(&error).contains("refused by the key manager"),
        "{}",
        cause(&error)
    );
}

#[tokio::test]
async fn an_absent_key_manager_may_come_back() {
    let error = failed(&World::new(), "unheard").await;
    assert!(
        matches!(error, JobError::Transient { .. }),
        "{}",
        cause(&error)
    );
}

#[tokio::test]
async fn a_guest_that_refuses_its_input_fails_for_good() {
    let error = failed(&World::new(), "rejects").await;
    assert!(
        matches!(error, JobError::Permanent { .. }),
        "{}",
        cause(&error)
    );
    assert!(
        cause(&error).contains("exit status: 7"),
        "{}",
        cause(&error)
    );
}

#[tokio::test]
async fn a_guest_that_crashes_may_do_better() {
    for model in ["crashes", "ends"] {
        let error = failed(&World::new(), model).await;
        assert!(
            matches!(error, JobError::Transient { .. }),
            "{model}: {}",
            cause(&error)
        );
    }
}

#[tokio::test]
async fn a_guest_of_another_build_is_told_by_its_announcement() {
    let error = failed(&World::new(), "mumbles").await;
    assert!(
        matches!(error, JobError::Permanent { .. }),
        "{}",
        cause(&error)
    );
}

#[tokio::test]
async fn a_missing_executable_is_named() {
    let world = World::new();
    let backend = LocalBackend::new(world.firmware.clone(), world.path("absent"));
    let pods = Arc::new(Pods::new(world.settings_alone(), Box::new(backend)));
    let error = provision(&pods, world.published(), &context(&world))
        .await
        .unwrap_err();
    assert!(error.remedy().is_some());
    assert!(cause(&error).contains("absent"), "{}", cause(&error));
}

#[tokio::test]
async fn a_guest_that_ended_is_started_again_under_the_same_pod() {
    let world = World::new();
    let (pods, played) = in_process(&world);
    let pod = provision(&pods, world.published(), &context(&world))
        .await
        .unwrap();
    let first = pods.serving(&pod.name, NOW).await.unwrap();
    played.end_guests();
    let second = pods.serving(&pod.name, NOW).await.unwrap();
    assert_eq!((first.start, second.start), (1, 2));
    assert_ne!(first.url, second.url);
}

#[tokio::test]
async fn a_pod_outlives_its_operator_and_follows_the_key_manager_of_today() {
    let world = World::new();
    let pod = {
        let pods = local(&world);
        provision(&pods, world.published_as("serves"), &context(&world))
            .await
            .unwrap()
    };
    let key_manager = KeyManagerAddress {
        url: "https://127.0.0.1:2".parse().unwrap(),
        id: VerifyingKey::from_bytes([5; 32]).thumbprint(),
        tls_sha256: Digest::of(b"tls"),
    };
    let backend = LocalBackend::new(world.firmware.clone(), guest_path());
    let next = Pods::new(world.settings(key_manager), Box::new(backend));
    let serving = next.serving(&pod.name, NOW).await.unwrap();
    assert_eq!(serving.start, 1);
    let init_data = world
        .path("pods")
        .join(pod.name.as_str())
        .join("init-data.toml");
    assert!(
        fs::read_to_string(init_data)
            .unwrap()
            .contains("https://127.0.0.1:2")
    );
}

#[tokio::test]
async fn a_guest_that_failed_after_serving_is_replaced() {
    let world = World::new();
    let (pods, played) = in_process(&world);
    let pod = provision(&pods, world.published(), &context(&world))
        .await
        .unwrap();
    *played.stage.lock().unwrap() = Some(Stage::Failed("refused by the key manager"));
    let error = pods.serving(&pod.name, NOW).await.unwrap_err();
    assert!(matches!(error, PodError::Failed { .. }), "{error}");
    assert_eq!(played.starts.load(Ordering::SeqCst), 2);
    *played.stage.lock().unwrap() = Some(Stage::Serving);
    assert_eq!(pods.serving(&pod.name, NOW).await.unwrap().start, 3);
}

#[tokio::test]
async fn deprovisioning_ends_the_guest_and_removes_the_spec_and_twice_is_success() {
    let world = World::new();
    let pods = local(&world);
    let pod = provision(&pods, world.published_as("serves"), &context(&world))
        .await
        .unwrap();
    let url = pods.serving(&pod.name, NOW).await.unwrap().url;
    let job = Deprovision::new(Arc::clone(&pods));
    for _ in 0..2 {
        job.run(&DeprovisionInput { pod: pod.clone() }, &context(&world))
            .await
            .unwrap();
    }
    assert!(!world.path("pods").join(pod.name.as_str()).exists());
    assert!(sealift_provision::GuestStatus::ask(&url).await.is_err());
    let gone = pods.serving(&pod.name, NOW).await.unwrap_err();
    assert!(matches!(&gone, PodError::NoSpec(_)) && !gone.is_transient());
}

#[tokio::test]
async fn undo_finds_the_pod_by_what_the_job_was_told_and_finding_none_is_success() {
    let world = World::new();
    let (pods, _) = in_process(&world);
    let (job, input) = (
        Provision::new(Arc::clone(&pods)),
        ProvisionInput {
            published: world.published(),
        },
    );
    job.undo(&input, None, &context(&world)).await.unwrap();
    let pod = provision(&pods, world.published(), &context(&world))
        .await
        .unwrap();
    job.undo(&input, None, &context(&world)).await.unwrap();
    assert!(!world.path("pods").join(pod.name.as_str()).exists());
}

#[tokio::test]
async fn a_name_that_stands_for_another_version_is_refused() {
    let world = World::new();
    let (pods, _) = in_process(&world);
    let pod = world.pod();
    pods.create(&pod).unwrap();
    let other = Pod { serial: 8, ..pod };
    assert!(matches!(pods.create(&other), Err(PodError::OtherPod(_))));
}

#[tokio::test]
async fn a_key_manager_outside_the_template_is_refused() {
    let world = World::new();
    let key_manager = KeyManagerAddress {
        url: "https://key-manager.example:443".parse().unwrap(),
        id: VerifyingKey::from_bytes([5; 32]).thumbprint(),
        tls_sha256: Digest::of(b"tls"),
    };
    let (backend, _) = GuestBackend::new(&world);
    let pods = Arc::new(Pods::new(world.settings(key_manager), Box::new(backend)));
    let error = provision(&pods, world.published(), &context(&world))
        .await
        .unwrap_err();
    assert!(
        error.remedy().unwrap().contains("template"),
        "{}",
        cause(&error)
    );
}
