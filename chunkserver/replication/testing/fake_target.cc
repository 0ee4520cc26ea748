#include "chunkserver/replication/testing/fake_target.h"

#include "proto/data.pb.h"

namespace tarn::replication::testing {

class FakeTarget::Authority final : public GroupAuthority {
 public:
  Authority(TargetId target, const Hooks* hooks) : target_(target), hooks_(hooks) {}
  void Report(const proto::GroupReport& report) override { hooks_->report(target_, report); }
  void WantMap(uint64_t version) override { hooks_->want_map(target_, version); }

 private:
  const TargetId target_;
  const Hooks* const hooks_;
};

FakeTarget::FakeTarget(TargetId the_id, EventQueue* queue, FakeNetwork* network, const ReplicationOptions& options, Hooks hooks)
    : id(the_id), queue_(queue), network_(network), options_(options), hooks_(std::move(hooks)), authority_(std::make_unique<Authority>(id, &hooks_)) {}

FakeTarget::~FakeTarget() {
  if (engine_ != nullptr) EndProcess();
}

void FakeTarget::Start() {
  executors_.push_back(std::make_unique<FakeExecutor>(queue_, hooks_.task_delay_ns, hooks_.clock_rate));
  ports_.push_back(network_->Open(id));
  store.Open(executors_.back().get(), hooks_.sync_delay_ms);
  engine_ = TargetReplication::Create(options_, id, &store, ports_.back().get(), authority_.get(), executors_.back().get());
  engine_->SetIncarnation(Incarnation(++incarnation_));
  network_->SetHandler(id, [this](rpc::Method method, std::span<const uint8_t> message, std::span<const uint8_t> payload, std::shared_ptr<void> holder,
                                  std::shared_ptr<PeerResponder> responder) { Handle(method, message, payload, std::move(holder), std::move(responder)); });
}

void FakeTarget::EndProcess() {
  network_->SetHandler(id, nullptr);
  executors_.back()->Kill();
  FakeNetwork::Kill(ports_.back().get());
  engine_.reset();
}

void FakeTarget::Kill(size_t kept) {
  EndProcess();
  store.Crash(kept);
}

void FakeTarget::ShutDown() {
  EndProcess();
  store.CloseCleanly();
}

void FakeTarget::Handle(rpc::Method method, std::span<const uint8_t> message, std::span<const uint8_t> payload, std::shared_ptr<void> holder,
                        std::shared_ptr<PeerResponder> responder) {
  if (method == rpc::Method::kReadChunk) {
    proto::ReadChunkRequest request;
    if (!request.ParseFromArray(message.data(), static_cast<int>(message.size()))) return;
    const ChunkId chunk{DataId(request.chunk().data_id()), request.chunk().chunk_index()};
    const GroupId group(request.chunk().group());
    const Epoch epoch(request.chunk().epoch());
    const ReadVerdict verdict = request.primary_is_silent() ? engine_->AdmitConfirmedRead(group, epoch, chunk) : engine_->AdmitRead(group, epoch, chunk);
    if (verdict.code != StatusCode::kOk) return responder->Fail(Status(verdict.code, "not here"), verdict.map_version);
    Result<std::vector<uint8_t>> bytes = store.ReadForCopy(chunk, request.offset_bytes(), request.length_bytes());
    bytes.ok() ? responder->Reply(proto::ReadChunkReply(), std::move(*bytes)) : responder->Fail(bytes.status());
  } else {
    engine_->HandlePeer(method, message, payload, std::move(holder), std::move(responder));
  }
}

}  // namespace tarn::replication::testing
