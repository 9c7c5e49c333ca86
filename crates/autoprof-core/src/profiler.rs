//! The profiler proxy: one profiler on the controller, with the lifecycle initialize → setup → start → stop → report.
use std::{fmt, sync::Arc};

use autoprof_protocol::{HostFacts, Invocation};

use crate::{
    args::{Args, ProfilerSpec},
    encoder::ArgEncoder,
    error::ArgError,
};

/// Who asked for a profiler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The user named it: it must be able to run on every host.
    Named,
    /// A preset of this name brought it: it is skipped where it cannot run.
    Preset(String),
}

impl Origin {
    /// The preset's name, if a preset asked.
    #[must_use]
    pub fn preset(&self) -> Option<&str> {
        match self {
            Self::Named => None,
            Self::Preset(name) => Some(name),
        }
    }
}

/// Where a proxy is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Its arguments are checked.
    Initialized,
    /// It may be started.
    SetUp,
    /// It collects.
    Started,
    /// It has stopped, and its data is on the hosts.
    Stopped,
    /// Its data is here; it may be started again.
    Reported,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Initialized => "initialized",
            Self::SetUp => "set up",
            Self::Started => "started",
            Self::Stopped => "stopped",
            Self::Reported => "reported",
        })
    }
}

/// A step that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LifecycleError {
    /// The arguments are not what the profiler takes.
    #[error(transparent)]
    Args(#[from] ArgError),
    /// `setup` got other arguments than `initialize`.
    #[error("{profiler}: set up with arguments ({setup}) other than it was initialized with ({initialized})")]
    OtherArgs {
        /// The profiler.
        profiler: String,
        /// What `initialize` got.
        initialized: String,
        /// What `setup` got.
        setup: String,
    },
    /// A step out of order.
    #[error("{profiler}: cannot {step} when it is {phase}")]
    Order {
        /// The profiler, or the manager.
        profiler: String,
        /// The step that was asked for.
        step: &'static str,
        /// Where it is.
        phase: String,
    },
    /// A second profiler of one name.
    #[error("{0}: given twice")]
    Duplicate(String),
}

/// One profiler on the controller.
#[derive(Clone)]
pub struct ProfilerProxy {
    encoder: Arc<dyn ArgEncoder>,
    name: String,
    args: Args,
    origin: Origin,
    phase: Phase,
}

impl fmt::Debug for ProfilerProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProfilerProxy")
            .field("name", &self.name)
            .field("args", &self.args)
            .field("origin", &self.origin)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

impl ProfilerProxy {
    /// Checks the arguments against what the profiler takes, and keeps them.
    ///
    /// # Errors
    /// [`LifecycleError::Args`] naming the parameter.
    pub fn initialize(encoder: Arc<dyn ArgEncoder>, args: &Args, origin: Origin) -> Result<Self, LifecycleError> {
        let name = encoder.profiler().name.to_string();
        let args = args.complete(encoder.profiler())?;
        Ok(Self { encoder, name, args, origin, phase: Phase::Initialized })
    }

    /// Sets the profiler up. The real set-up is lazy and happens on the hosts; here the arguments must be those that
    /// it was initialized with.
    ///
    /// # Errors
    /// [`LifecycleError::OtherArgs`] for different arguments, [`LifecycleError::Order`] for one that is started.
    pub fn setup(&mut self, args: &Args) -> Result<(), LifecycleError> {
        let args = args.complete(self.encoder.profiler())?;
        if args != self.args {
            let text = |args: &Args| ProfilerSpec { name: self.name.clone(), args: args.clone() }.to_string();
            return Err(LifecycleError::OtherArgs {
                profiler: self.name.clone(),
                initialized: text(&self.args),
                setup: text(&args),
            });
        }
        self.advance("set up", &[Phase::Initialized, Phase::SetUp], Phase::SetUp)
    }

    /// Notes that it was started.
    ///
    /// # Errors
    /// [`LifecycleError::Order`] unless it is set up or has reported.
    pub fn start(&mut self) -> Result<(), LifecycleError> {
        self.advance("start", &[Phase::SetUp, Phase::Reported], Phase::Started)
    }

    /// Notes that it was stopped.
    ///
    /// # Errors
    /// [`LifecycleError::Order`] unless it is started.
    pub fn stop(&mut self) -> Result<(), LifecycleError> {
        self.advance("stop", &[Phase::Started], Phase::Stopped)
    }

    /// Notes that it has reported.
    ///
    /// # Errors
    /// [`LifecycleError::Order`] unless it is stopped.
    pub fn report(&mut self) -> Result<(), LifecycleError> {
        self.advance("report", &[Phase::Stopped], Phase::Reported)
    }

    /// What the clients of a host with these facts will run.
    ///
    /// # Errors
    /// When the profiler cannot run there.
    pub fn encode(&self, facts: &HostFacts) -> Result<Invocation, ArgError> {
        self.encoder.encode(&self.args, facts)
    }

    /// The profiler's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its arguments, complete.
    #[must_use]
    pub fn args(&self) -> &Args {
        &self.args
    }

    /// Who asked for it.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Where it is in its life.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Its encoder.
    #[must_use]
    pub fn encoder(&self) -> &Arc<dyn ArgEncoder> {
        &self.encoder
    }

    fn advance(&mut self, step: &'static str, from: &[Phase], to: Phase) -> Result<(), LifecycleError> {
        if !from.contains(&self.phase) {
            return Err(LifecycleError::Order { profiler: self.name.clone(), step, phase: self.phase.to_string() });
        }
        self.phase = to;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoder::{Param, ParamType, ProfilerInfo};

    struct Echo;
    const PARAMS: &[Param] = &[Param::new("interval", ParamType::Integer, "").default("1").range("1..")];
    static INFO: ProfilerInfo = ProfilerInfo::new("echo", "").params(PARAMS);

    impl ArgEncoder for Echo {
        fn profiler(&self) -> &ProfilerInfo {
            &INFO
        }

        fn encode(&self, _: &Args, _: &HostFacts) -> Result<Invocation, ArgError> {
            Ok(Invocation::default())
        }
    }

    fn proxy() -> ProfilerProxy {
        ProfilerProxy::initialize(Arc::new(Echo), &Args::new(), Origin::Named).unwrap()
    }

    #[test]
    fn the_lifecycle_goes_round_in_order() {
        let mut proxy = proxy();
        proxy.setup(&Args::new()).unwrap();
        for _ in 0..2 {
            proxy.start().unwrap();
            proxy.stop().unwrap();
            proxy.report().unwrap();
        }
        assert_eq!(proxy.phase(), Phase::Reported);
    }

    #[test]
    fn every_other_order_is_a_typed_error() {
        type Step = fn(&mut ProfilerProxy) -> Result<(), LifecycleError>;
        let order = |steps: &[Step]| {
            let mut proxy = proxy();
            steps.iter().map(|step| step(&mut proxy)).last().unwrap().unwrap_err().to_string()
        };
        let setup: Step = |p| p.setup(&Args::new());
        assert_eq!(order(&[ProfilerProxy::start]), "echo: cannot start when it is initialized");
        assert_eq!(order(&[ProfilerProxy::stop]), "echo: cannot stop when it is initialized");
        assert_eq!(order(&[setup, ProfilerProxy::stop]), "echo: cannot stop when it is set up");
        assert_eq!(
            order(&[setup, ProfilerProxy::start, ProfilerProxy::start]),
            "echo: cannot start when it is started"
        );
        assert_eq!(order(&[setup, ProfilerProxy::start, setup]), "echo: cannot set up when it is started");
        assert_eq!(
            order(&[setup, ProfilerProxy::start, ProfilerProxy::report]),
            "echo: cannot report when it is started"
        );
        assert_eq!(
            order(&[setup, ProfilerProxy::start, ProfilerProxy::stop, ProfilerProxy::stop]),
            "echo: cannot stop when it is stopped"
        );
    }

    #[test]
    fn setup_refuses_other_arguments_but_takes_the_same_ones_written_otherwise() {
        let mut proxy = proxy();
        let error = proxy.setup(&Args::new().with("interval", 5)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "echo: set up with arguments (echo:interval=5) other than it was initialized with (echo:interval=1)"
        );
        proxy.setup(&Args { positional: vec![1.into()], ..Args::new() }).unwrap();
    }

    #[test]
    fn initialize_refuses_what_the_profiler_does_not_take() {
        let error = ProfilerProxy::initialize(Arc::new(Echo), &Args::new().with("x", 1), Origin::Named).unwrap_err();
        assert!(matches!(error, LifecycleError::Args(_)));
    }
}
