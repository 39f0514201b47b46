package hub

import (
	"context"
	"maps"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/stamp/command"
	"github.com/slipway/slipway/internal/stamp/telemetry"
)

// maxOutstanding is how many commands may wait for a device's PUBACK.
const maxOutstanding = 16

// Send queues a cloud-to-device message and hands it over if the device listens.
func (h *Hub) Send(ctx context.Context, m link.SendMessage) (link.QueuedMessage, error) {
	queued, err := h.Queues.Send(ctx, m, h.Now())
	if err != nil {
		return queued, err
	}
	h.meters.commands.WithLabelValues("Queued").Inc()
	h.Logs.Note(telemetry.Event{DeviceID: m.DeviceID, Kind: "messageQueued", Details: map[string]string{"messageId": queued.MessageID}})
	h.pump(m.DeviceID)
	return queued, nil
}

// pump hands a device what waits for it, wherever it is connected.
func (h *Hub) pump(id string) {
	if s := h.session(id); s != nil {
		s.pump()
	} else if h.Others != nil {
		h.Others.Pump(id)
	}
}

// pump hands waiting commands over. One runs at a time; a call meanwhile makes
// it look again.
func (s *Session) pump() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pumping {
		s.pumpAgain = true
		return
	}
	s.pumping = true
	go s.runPump()
}

func (s *Session) runPump() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		more, err := s.handOver(ctx)
		if err != nil {
			s.hub.Logger.Error("commands could not be handed over", "device", s.DeviceID, "error", err)
		}
		s.mu.Lock()
		if err != nil || !more && !s.pumpAgain {
			s.pumping = false
			s.mu.Unlock()
			return
		}
		s.pumpAgain = false
		s.mu.Unlock()
	}
}

// handOver sends as many commands as the device may still be given.
func (s *Session) handOver(ctx context.Context) (more bool, err error) {
	qos, listening := s.Subscribed(Commands)
	if !listening || s.over() {
		return false, nil
	}
	// What is held is looked at before what waits: a command that the device
	// acknowledges in between is still among those read.
	held := s.held()
	waiting, err := s.hub.Queues.Waiting(ctx, s.DeviceID, s.hub.Now())
	if err != nil {
		return false, err
	}
	if waiting = fresh(waiting, held); len(waiting) == 0 {
		return false, nil
	}
	if err := s.hub.Queues.Handed(ctx, waiting, s.hub.Now()); err != nil {
		return false, err
	}
	for _, m := range waiting {
		if qos > 0 {
			s.hold(m.Sequence)
		}
		s.downlink.Message(m, qos)
		if qos == 0 {
			// Nothing will come back, so handing it over is all there is to wait for.
			if err := s.complete(ctx, m.Sequence); err != nil {
				return false, err
			}
		}
	}
	return true, nil
}

// held are the commands given to the device over this connection that it has
// not acknowledged.
func (s *Session) held() map[int64]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.outstanding)
}

// fresh leaves of what waits the part that is not held, as far as there is room.
func fresh(waiting []command.Message, held map[int64]bool) []command.Message {
	var all []command.Message
	for _, m := range waiting {
		if !held[m.Sequence] && len(held)+len(all) < maxOutstanding {
			all = append(all, m)
		}
	}
	return all
}

func (s *Session) hold(sequence int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outstanding[sequence] = true
}

// Completed notes that the device acknowledged a command.
func (s *Session) Completed(ctx context.Context, sequence int64) error {
	if err := s.complete(ctx, sequence); err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.outstanding, sequence)
	s.mu.Unlock()
	s.pump()
	return nil
}

func (s *Session) complete(ctx context.Context, sequence int64) error {
	return s.hub.Queues.Complete(ctx, s.DeviceID, sequence, s.hub.Now())
}
