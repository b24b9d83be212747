// 流式聊天
stream, err := client.CreateChatCompletionStream(ctx, &pb.ChatCompletionRequest{
    ModelId: "qwen3-7b",
    Messages: []*pb.Message{
        {Role: "user", Content: "写一首关于春天的诗。"},
    },
    MaxTokens: 200,
    Temperature: 0.8,
    Stream: true,
})

if err != nil {
    log.Fatalf("Stream request failed: %v", err)
}

for {
    chunk, err := stream.Recv()
    if err == io.EOF {
        break
    }
    if err != nil {
        log.Fatalf("Stream receive error: %v", err)
    }
    
    // 处理流式响应
    fmt.Print(chunk.Choices[0].Delta.Content)
}
