//! A lab of private hosts on this machine.
