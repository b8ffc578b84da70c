//! One module per group of commands.

mod answer_room;
mod batch;
mod control;
mod init;
mod integer_reference;
pub(crate) mod look;
mod model;
mod model_diff;
mod model_erase;
mod model_export;
mod model_gc;
mod model_rotate;
mod plan_cost;
mod receipts;
mod report;
mod run;
pub(crate) mod stores;
pub(crate) mod validate;

use crate::{
    args::{Args, Batch, Command, Model, Receipts, Reference},
    failure::Failure,
    layout::Layout,
    output::Output,
};

pub(crate) async fn dispatch(args: Args, output: Output) -> Result<(), Failure> {
    let layout = || Layout::open(&args.state);
    match &args.command {
        Command::Init(init) => init::init(&args.state, init.directory.as_deref(), output),
        Command::Validate(validate) => validate::validate(&validate.file, output),
        Command::Plan(plan) => validate::plan(&plan.file, &plan.inputs, output),
        Command::Run(run) => run::run(&layout()?, run, output).await,
        Command::Resume(resume) => run::resume(&layout()?, resume, output).await,
        Command::Runs => look::runs(&layout()?, output).await,
        Command::Show(show) => look::show(&layout()?, show, output).await,
        Command::Logs(logs) => look::logs(&layout()?, logs, output).await,
        Command::Batch(Batch::Seal(seal)) => batch::seal(&layout()?, seal, output).await,
        Command::Batch(Batch::Open(open)) => batch::open(&layout()?, open, output),
        Command::Batch(Batch::Compare(compare)) => batch::compare_with(&layout()?, compare, output),
        Command::Receipts(Receipts::Verify(verify)) => receipts::verify(&layout()?, verify, output),
        Command::Receipts(Receipts::VerifyErasure(verify)) => {
            model_erase::verify(&layout()?, verify, output)
        }
        Command::Model(Model::Inspect(at)) => model::inspect(&args.state, at, output).await,
        Command::Model(Model::Verify(verify)) => model::verify(&args.state, verify, output).await,
        Command::Model(Model::Diff(diff)) => model_diff::diff(&args.state, diff, output).await,
        Command::Model(Model::Export(export)) => model_export::export(&layout()?, export, output),
        Command::Model(Model::Rotate(rotate)) => model_rotate::rotate(&layout()?, rotate, output),
        Command::Model(Model::Erase(erase)) => model_erase::erase(&layout()?, erase, output),
        Command::Model(Model::Gc(gc)) => model_gc::gc(&args.state, gc, output).await,
        Command::Model(Model::Pull(pull)) => model::pull(&args.state, pull, output).await,
        Command::Report(report) => report::report(&layout()?, report, output).await,
        Command::Reference(Reference::Accept(_)) => init::accept_references(&layout()?, output),
        Command::Status => control::status(&layout()?, output).await,
        Command::Stop => control::stop(&layout()?, output).await,
    }
}
