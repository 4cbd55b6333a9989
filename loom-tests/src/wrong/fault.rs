//! The steps that are wrong, one in each design.

/// The step that is wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No step. The models have to pass, which shows that they catch the fault and not the shape.
    Sound,
    /// Two cells hold one half of the value each. Breaks: INV-01, INV-04
    TwoCells,
    /// Each reload stores the value that it loaded, even if another reload stored meanwhile.
    /// Breaks: INV-04
    Unserialised,
    /// The hint is set and notified without the lock under which the driver goes to sleep.
    /// Breaks: INV-05, INV-06
    HintWithoutLock,
    /// The start guard is not reset when the driver ends. Breaks: INV-13
    GuardNeverReset,
    /// A stop waits for whichever driver runs, even for one that was started after it.
    /// Breaks: INV-13
    StopWaitsForAny,
    /// The stop flag is read, and the value is swapped after the lock was released. Breaks: INV-13
    CheckThenSwap,
    /// A waiter reads the generation, releases the lock, and registers only then. Breaks: INV-11
    RegisterLate,
    /// The generation is stored before the pointer. Breaks: INV-11
    GenerationFirst,
    /// The generation is stored after the pointer, and not under one lock with it. Breaks: INV-11
    GenerationLate,
    /// A panic in a build ends the driver, which is not restored. Breaks: INV-03
    PanicEscapes,
    /// A reload from a callback waits for the driver that calls it. Breaks: INV-13
    CallbackWaits,
    /// A stop from a callback wakes no waiter. Breaks: INV-13
    SilentStop,
    /// The end of a manual reload wakes no waiter, so that a worker that was started meanwhile
    /// keeps sleeping. Breaks: INV-13
    SilentRest,
    /// The end of a worker wakes no task. Breaks: INV-13
    SilentEnd,
    /// A manual reload takes the answer of another one that was in progress. Breaks: INV-11
    AnswersOfOthers,
}

/// The fault as a type parameter of a body that is generic over the design.
pub trait Pick: Send + Sync + 'static {
    /// The fault.
    const FAULT: Fault;
}

/// Defines a type for each fault.
macro_rules! picks {
    ($($name:ident),* $(,)?) => {
        $(
            #[doc = concat!("[`Fault::", stringify!($name), "`].")]
            pub struct $name;
            impl Pick for $name {
                const FAULT: Fault = Fault::$name;
            }
        )*
    };
}

picks!(
    Sound,
    TwoCells,
    Unserialised,
    HintWithoutLock,
    GuardNeverReset,
    StopWaitsForAny,
    CheckThenSwap,
    RegisterLate,
    GenerationFirst,
    GenerationLate,
    PanicEscapes,
    CallbackWaits,
    SilentStop,
    SilentRest,
    SilentEnd,
    AnswersOfOthers,
);
