#include "metaserver/service/reply_faults.h"

#include <google/protobuf/descriptor.h>
#include <spdlog/spdlog.h>

#include <array>
#include <chrono>
#include <functional>
#include <thread>
#include <utility>

#include "common/rpc/responder.h"
#include "metaserver/service/fault_names.h"
#include "proto/types.pb.h"

namespace tarn::meta {
namespace {

std::string OperationOf(const proto::Mutation& mutation) {
  const google::protobuf::OneofDescriptor* const operations = proto::Mutation::descriptor()->FindOneofByName("op");
  const google::protobuf::FieldDescriptor* const field = mutation.GetReflection()->GetOneofFieldDescriptor(mutation, operations);
  return field == nullptr ? std::string() : field->name();
}

std::string NameOf(fault::FaultPointName name, const std::string& operation) { return std::string(name.text) + "/" + operation; }

// What makes a repeat of one without a session recognizable.
uint64_t NonceOf(const proto::Mutation& mutation) {
  if (mutation.has_open_session()) return mutation.open_session().nonce();
  if (mutation.has_set_metaservers() && mutation.set_metaservers().members_size() != 0) return mutation.set_metaservers().members(0).nonce();
  if (mutation.has_register_server()) return mutation.register_server().request().incarnation();
  return 0;
}

Status Lost() { return Status(StatusCode::kUnavailable, "planted: the answer is lost"); }

}  // namespace

// Passes one answer on as its fate wills.
class ReplyFaults::MeddledResponder final : public rpc::Responder {
 public:
  MeddledResponder(ReplyFaults* faults, Fate fate, std::shared_ptr<rpc::Responder> answer, rpc::EventLoop* loop)
      : faults_(faults), fate_(fate), answer_(std::move(answer)), loop_(loop) {}

  void Reply(const google::protobuf::MessageLite& message) override {
    const std::shared_ptr<google::protobuf::MessageLite> copy(message.New());
    copy->CheckTypeAndMergeFrom(message);
    Pass([copy](rpc::Responder& answer) { answer.Reply(*copy); });
  }
  void Fail(const Status& status) override { Fail(status, {}); }
  void Fail(const Status& status, proto::ErrorDetail detail) override {
    Pass([status, detail = std::move(detail)](rpc::Responder& answer) { answer.Fail(status, detail); });
  }
  // Mutations are not answered so.
  void Reply(const google::protobuf::MessageLite& message, Buffer payload) override { answer_->Reply(message, std::move(payload)); }
  void ReplyFile(const google::protobuf::MessageLite& message, std::vector<rpc::FilePayload> parts) override {
    answer_->ReplyFile(message, std::move(parts));
  }

 private:
  void Pass(std::function<void(rpc::Responder&)> send) {
    const auto later = [this, &send](std::shared_ptr<rpc::Responder> answer) {
      loop_->PostAfter(faults_->delay_ms_, [send, answer = std::move(answer)] { send(*answer); });
    };
    switch (fate_) {
      case Fate::kLose:
        return answer_->Fail(Lost());
      case Fate::kDrop:
        return faults_->Withhold(std::move(answer_));
      case Fate::kDelay:
        return later(std::move(answer_));
      case Fate::kRepeat: {
        // Only what came over a connection can be answered twice.
        auto* const answered = dynamic_cast<rpc::ConnectionResponder*>(answer_.get());
        std::shared_ptr<rpc::Responder> twin = answered != nullptr ? answered->Twin() : nullptr;
        send(*answer_);
        if (twin != nullptr) later(std::move(twin));
        return;
      }
      case Fate::kNone:
        return send(*answer_);
    }
  }

  ReplyFaults* const faults_;
  const Fate fate_;
  std::shared_ptr<rpc::Responder> answer_;
  rpc::EventLoop* const loop_;
};

std::vector<std::string> ReplyFaults::Names() {
  std::vector<std::string> names;
  const google::protobuf::OneofDescriptor* const operations = proto::Mutation::descriptor()->FindOneofByName("op");
  for (const fault::FaultPointName& name : kFaultNames) {
    names.emplace_back(name.text);
    for (int i = 0; i < operations->field_count(); ++i) names.push_back(NameOf(name, operations->field(i)->name()));
  }
  return names;
}

std::vector<ReplyFaults::Subject> ReplyFaults::Note(std::span<const proto::Mutation> mutations) const {
  std::vector<Subject> subjects;
  if (!faults_->armed()) [[likely]] {
    return subjects;
  }
  for (const proto::Mutation& mutation : mutations) {
    subjects.push_back({.operation = OperationOf(mutation),
                        .session = mutation.session(),
                        .number = mutation.session() != 0 ? mutation.sequence() : NonceOf(mutation)});
  }
  return subjects;
}

ReplyFaults::Fate ReplyFaults::Decide(std::span<const Subject> subjects) {
  constexpr std::array kFates = {std::pair{kLoseReply, Fate::kLose}, std::pair{kDropReply, Fate::kDrop}, std::pair{kDelayReply, Fate::kDelay},
                                 std::pair{kRepeatReply, Fate::kRepeat}};
  for (const Subject& subject : subjects) {
    {
      MutexLock lock(mutex_);
      if (meddled_.contains({subject.operation, subject.session, subject.number})) continue;
    }
    for (const auto& [name, fate] : kFates) {
      const std::string of_operation = NameOf(name, subject.operation);
      if (!faults_->Fires({of_operation}) && !faults_->Fires(name)) continue;
      spdlog::info("planted: {} operation={} session={} number={}", name.text, subject.operation, subject.session, subject.number);
      MutexLock lock(mutex_);
      const bool can_be_told_apart = subject.session != 0 || subject.number != 0;
      if (can_be_told_apart && meddled_.size() < kRemembered) meddled_.insert({subject.operation, subject.session, subject.number});
      return fate;
    }
  }
  return Fate::kNone;
}

std::shared_ptr<rpc::Responder> ReplyFaults::Meddle(std::span<const Subject> subjects, std::shared_ptr<rpc::Responder> answer,
                                                    rpc::EventLoop* loop) {
  const Fate fate = Decide(subjects);
  if (fate == Fate::kNone) return answer;
  return std::make_shared<MeddledResponder>(this, fate, std::move(answer), loop);
}

Status ReplyFaults::MeddleBlocking(std::span<const Subject> subjects) {
  const Fate fate = Decide(subjects);
  if (fate == Fate::kDrop || fate == Fate::kDelay) std::this_thread::sleep_for(std::chrono::milliseconds(delay_ms_));
  return fate == Fate::kLose || fate == Fate::kDrop ? Lost() : Status::Ok();
}

void ReplyFaults::Withhold(std::shared_ptr<rpc::Responder> answer) {
  std::shared_ptr<rpc::Responder> oldest;
  MutexLock lock(mutex_);
  withheld_.push_back(std::move(answer));
  if (withheld_.size() > kRemembered) {
    oldest = std::move(withheld_.front());
    withheld_.pop_front();
  }
}

}  // namespace tarn::meta
