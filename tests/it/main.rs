//! Tests of the whole program from outside: real processes, real signals, the real protocol and, where it says so, the real
//! MassGen. They wait for conditions and never for time, reach nothing beyond loopback, and leave nothing behind.

mod bad_input;
mod configs;
mod examples;
mod failures;
mod faults;
mod governed;
mod house;
mod lab;
mod layouts;
mod loop_on_massgen;
mod model;
mod people;
mod processes;
mod properties;
mod prune;
mod raw;
mod set_up;
mod settings;
