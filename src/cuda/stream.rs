//! Streams, the events that order them, and graphs captured from them. The only waits between
//! streams are those written here as [`Stream::wait`].

use std::{marker::PhantomData, sync::Arc};

use cudarc::driver::{CudaContext, CudaEvent, CudaGraph, CudaStream, sys};

use super::error::CudaError;

/// A queue of work on the GPU. Clones name the same queue.
#[derive(Debug, Clone)]
pub struct Stream {
    stream: Arc<CudaStream>,
    one_thread: PhantomData<*const ()>,
}

/// A point in a stream, once recorded.
#[derive(Debug)]
pub struct Event {
    event: CudaEvent,
    one_thread: PhantomData<*const ()>,
}

/// Work captured from a stream, launched as one.
pub struct Graph {
    graph: CudaGraph,
}

impl Stream {
    pub(super) fn new(context: &Arc<CudaContext>) -> Result<Stream, CudaError> {
        let stream = context.new_stream().map_err(|e| CudaError::driver("creating a stream", e))?;
        Ok(Stream { stream, one_thread: PhantomData })
    }

    /// Everything enqueued later waits until the event's point is reached. An event recorded again
    /// afterwards doesn't change this; one that was never recorded is not waited for.
    pub fn wait(&self, event: &Event) -> Result<(), CudaError> {
        self.stream
            .wait(&event.event)
            .map_err(|e| CudaError::driver("making a stream wait for an event", e))
    }

    pub fn record(&self, event: &Event) -> Result<(), CudaError> {
        event.event.record(&self.stream).map_err(|e| CudaError::driver("recording an event", e))
    }

    /// Waits until everything enqueued has run. Errors of kernels show here.
    pub fn synchronize(&self) -> Result<(), CudaError> {
        self.stream.synchronize().map_err(|e| CudaError::driver("waiting for a stream", e))
    }

    /// Captures what `enqueue` puts into this stream, without running it. Inside, nothing may be
    /// allocated, freed, loaded, compiled or waited for by the host. An error or a panic of
    /// `enqueue` ends the capture.
    pub fn capture<E: From<CudaError>>(
        &self,
        enqueue: impl FnOnce(&Stream) -> Result<(), E>,
    ) -> Result<Graph, E> {
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        self.stream
            .begin_capture(mode)
            .map_err(|e| CudaError::driver("starting to capture a graph", e))?;
        let mut capture = Capture { stream: self, ended: false };
        enqueue(self)?;
        Ok(capture.end()?)
    }

    /// The stream as cudarc has it, for libraries that keep it alive.
    pub(super) fn shared(&self) -> Arc<CudaStream> {
        self.stream.clone()
    }

    /// The driver's handle, for libraries such as cuDNN.
    pub fn raw(&self) -> sys::CUstream {
        self.stream.cu_stream()
    }

    /// Makes the context of this stream the thread's, which the functions of
    /// `cudarc::driver::result` expect.
    pub(super) fn bind(&self) -> Result<(), CudaError> {
        bind(self.stream.context())
    }
}

pub(super) fn bind(context: &CudaContext) -> Result<(), CudaError> {
    context.bind_to_thread().map_err(|e| CudaError::driver("choosing the GPU", e))
}

/// Ends the capture in every case: a stream left capturing takes no other work.
struct Capture<'a> {
    stream: &'a Stream,
    ended: bool,
}

impl Capture<'_> {
    fn end(&mut self) -> Result<Graph, CudaError> {
        self.ended = true;
        const DOING: &str = "capturing a graph";
        match self.stream.stream.end_capture(sys::CUgraphInstantiate_flags(0)) {
            Ok(Some(graph)) => Ok(Graph { graph }),
            Ok(None) => Err(CudaError::Bug(format!("{DOING} gave no graph"))),
            Err(error) => Err(CudaError::driver(DOING, error)),
        }
    }
}

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        if !self.ended {
            // The error that brought us here is the one to report.
            let _ = self.end();
        }
    }
}

impl Graph {
    /// Enqueues the captured work in the stream that it was captured from.
    pub fn launch(&self) -> Result<(), CudaError> {
        self.graph.launch().map_err(|e| CudaError::driver("launching a graph", e))
    }
}

impl Event {
    pub(super) fn new(context: &Arc<CudaContext>, timed: bool) -> Result<Event, CudaError> {
        let flags = match timed {
            true => sys::CUevent_flags::CU_EVENT_DEFAULT,
            false => sys::CUevent_flags::CU_EVENT_DISABLE_TIMING,
        };
        let event = context
            .new_event(Some(flags))
            .map_err(|e| CudaError::driver("creating an event", e))?;
        Ok(Event { event, one_thread: PhantomData })
    }

    /// Waits on the host until the event's point is reached.
    pub fn synchronize(&self) -> Result<(), CudaError> {
        self.event.synchronize().map_err(|e| CudaError::driver("waiting for an event", e))
    }

    pub fn is_complete(&self) -> Result<bool, CudaError> {
        self.event.try_is_complete().map_err(|e| CudaError::driver("asking for an event", e))
    }

    /// Milliseconds from this event to a later one, both timed and recorded; waits for them.
    pub fn milliseconds_to(&self, later: &Event) -> Result<f64, CudaError> {
        self.event
            .elapsed_ms(&later.event)
            .map(f64::from)
            .map_err(|e| CudaError::driver("reading the time between events", e))
    }
}
